"""Courses as files: reading them, building nbgrader's sources from them, and proving them."""
