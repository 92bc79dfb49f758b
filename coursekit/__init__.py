"""The reference library of the course: what its lessons measure with, and what their readers write again."""

__all__: list[str] = []
