"""What all measuring programs are told on their command lines."""

import argparse


def parser(description):
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--bin", required=True, help="the folder of the programs")
    result.add_argument("--json", help="write the figures to this file, too")
    return result


def add_rounds(to, default):
    to.add_argument("--rounds", type=at_least_two, default=default, help="default: %(default)s")


def at_least_two(text):
    if int(text) < 2:
        raise argparse.ArgumentTypeError("the noise takes two rounds to show")
    return int(text)
