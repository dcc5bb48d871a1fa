"""Brings the tables to the version that this program knows: ``rowqueue migrate``.

``scripts`` reads the numbered scripts, ``plan`` decides which of them to run, ``adoption`` how the rows of an older
table are read, and ``runner`` runs them.
"""
