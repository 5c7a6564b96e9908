# The main model, tested on Cityscapes-C: the same as tools/test.py --benchmark cityscapes-c.
_base_ = ['./fan_b_tap_adl_cityscapes.py', './_base_/benchmarks/cityscapes_c.py']
test_cfg = _base_.benchmark
