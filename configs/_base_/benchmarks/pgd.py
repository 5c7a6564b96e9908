# A config that inherits this file and says `test_cfg = _base_.benchmark` runs as with
# `--benchmark pgd`.
benchmark = dict(type='CorruptionTestLoop', protocol='pgd')
