# A config that inherits this file and says `test_cfg = _base_.benchmark` runs as with
# `--benchmark night-driving`.
benchmark = dict(type='CorruptionTestLoop', protocol='night-driving')
