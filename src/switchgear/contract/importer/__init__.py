"""`.proto` files of others, read into a Python module that people can read too.

`protoc` compiles; what it gives is written down as declarations: `names` decides what everything is
called in Python, `types` what a field is, `options` what is said of something besides, and `writer`
puts the lines together. Exporting the module gives the same descriptors again, but for what is told
at the top of the module: the message sets of proto1.
"""

from switchgear.contract.importer.read import import_proto, module_of

__all__ = ["import_proto", "module_of"]
