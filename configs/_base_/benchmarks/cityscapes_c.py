# A config that inherits this file and says `test_cfg = _base_.benchmark` runs as with
# `--benchmark cityscapes-c`.
benchmark = dict(type='CorruptionTestLoop', protocol='cityscapes-c')
