# A config that inherits this file and says `test_cfg = _base_.benchmark` runs as with
# `--benchmark patch-corruption`.
benchmark = dict(type='CorruptionTestLoop', protocol='patch-corruption')
