"""The side-by-side benchmark: contenders, load, measures and the table. Standard library only."""
