# A config that inherits this file and says `test_cfg = _base_.benchmark` runs as with
# `--benchmark cifar10-c`.
benchmark = dict(type='CorruptionTestLoop', protocol='cifar10-c')
