"""Encoders that transformers does not have, with the interface of its models.

The package is imported only when such an encoder is built, because transformers takes seconds to import.
"""
