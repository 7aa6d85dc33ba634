"""Prints rows of text as a table, or writes figures to a file."""

import json


def print_table(head, rows, left=1):
    """The first `left` columns are aligned left, the others right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    rule = ["-" * width for width in widths]
    for row in (head, rule, *rows):
        cells = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        )
        print("  ".join(cells).rstrip())


def write_json(path, results):
    """To the file `path`, if there is one."""
    if path:
        with open(path, "w") as file:
            json.dump(results, file, indent=2)
