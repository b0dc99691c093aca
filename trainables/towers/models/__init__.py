"""Encoders that transformers does not have, as models of its kind: configuration, saving, loading.

Imported only when such an encoder is built, as transformers takes seconds to import.
"""
