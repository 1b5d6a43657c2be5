"""Dedupe keys beyond PostgreSQL: a sorted file in each segment's folder (docs/dedupe.md).

`form` is the file, `making` makes it, `looking` finds older keys in it, `leaving` takes keys out of PostgreSQL,
`checking` is what `fsck` asks. Import the module that you need: the store's files are written below this package and
read above it.
"""
