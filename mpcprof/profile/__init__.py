"""A profile: its columns, its records, its file, its exports."""
