# A config that inherits this file and says `test_cfg = _base_.benchmark` runs as with
# `--benchmark dark-zurich`.
benchmark = dict(type='CorruptionTestLoop', protocol='dark-zurich')
