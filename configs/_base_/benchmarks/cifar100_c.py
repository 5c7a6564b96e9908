# A config that inherits this file and says `test_cfg = _base_.benchmark` runs as with
# `--benchmark cifar100-c`.
benchmark = dict(type='CorruptionTestLoop', protocol='cifar100-c')
