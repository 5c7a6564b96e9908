# A config that inherits this file and says `test_cfg = _base_.benchmark` runs as with
# `--benchmark imagenet-sketch`.
benchmark = dict(type='CorruptionTestLoop', protocol='imagenet-sketch')
