"""Hardware ports and their implementations. The only package that imports hardware libraries."""
