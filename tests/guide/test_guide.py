"""MIGRATING.md says what the sources say, links to what is there, and names what can be called."""

import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

import guide

TEXT = guide.GUIDE.read_text()
WITHOUT_BLOCKS = guide.BLOCK.sub("", TEXT)
STRICT = ("-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{guide.ROOT / 'include'}")
COMPILER = {
    "c": (os.environ["CC"], "-xc", "-std=c11", *STRICT),
    "cpp": (os.environ["CXX"], "-xc++", "-std=c++17", *STRICT),
}
PROGRAMS = {"mcbpd": os.environ["MCBPD"], "mcload": os.environ["MCLOAD"]}


def usage(*program):
    shown = subprocess.run([*program, "--help"], capture_output=True, text=True)
    return shown.stdout + shown.stderr


def anchors():
    for heading in re.findall(r"^#+ (.*)$", WITHOUT_BLOCKS, re.M):
        yield re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


class Guide(unittest.TestCase):
    maxDiff = None

    def test_blocks_are_those_of_the_sources(self):
        now = guide.rewritten(TEXT)
        self.assertEqual(TEXT, now, "python3 tests/guide/guide.py writes it anew")

    def test_blocks_say_where_they_come_from(self):
        blocks = list(guide.BLOCK.finditer(TEXT))
        self.assertEqual(TEXT.count("```"), 2 * len(blocks))
        self.assertEqual(len(guide.LINES.findall(TEXT)), 1)
        for block in blocks:
            if block["language"] != "sh":
                self.assertIn(block["how"], ("from", "diff", "compile"), block["text"])

    def test_other_blocks_compile(self):
        compiled = [block for block in guide.BLOCK.finditer(TEXT) if block["how"] == "compile"]
        self.assertGreater(len(compiled), 0)
        for block in compiled:
            with self.subTest(block=block["text"]):
                around, _, behind = block["what"].partition("@@\n")
                program = around + block["text"] + behind
                command = [*COMPILER[block["language"]], "-"]
                result = subprocess.run(command, input=program, capture_output=True, text=True)
                self.assertEqual(result.returncode, 0, result.stderr)

    def test_new_rows_are_shorter(self):
        """Also than the hand-rolled one without what sendq does besides: the books."""
        lines = {
            row: sum(map(guide.length, guide.sources_of(row))) for row in ("sendq-copy", "sendq-ref")
        }
        sending = [
            path
            for path in guide.sources_of("sendmsg")
            if path.stem not in ("accounts", "coarse_clock")
        ]
        self.assertLess(max(lines.values()), sum(map(guide.length, sending)))

    def test_a_row_of_messages_is_the_shortest(self):
        lines = {row: sum(map(guide.length, guide.sources_of(row))) for row in guide.ROWS}
        self.assertEqual(min(lines, key=lines.get), "sendq-message")

    def test_links(self):
        links = re.findall(r"\]\(([^)]+)\)", WITHOUT_BLOCKS)
        self.assertGreater(len(links), 0)
        for link in links:
            path, _, anchor = link.partition("#")
            with self.subTest(link=link):
                self.assertTrue((guide.ROOT / path).exists())
                if not path:
                    self.assertIn(anchor, anchors())

    def test_commands(self):
        presets = (guide.ROOT / "CMakePresets.json").read_text()
        commands = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.M | re.S)
        for command in "".join(commands).splitlines():
            with self.subTest(command=command):
                first, *words = command.split()
                if first == "cmake":
                    self.assertIn(f'"{words[words.index("--preset") + 1]}"', presets)
                    continue
                if first == "python3":
                    known = usage(sys.executable, guide.ROOT / words.pop(0))
                else:
                    known = usage(PROGRAMS[Path(first).name])
                for option in (word for word in words if word.startswith("--")):
                    self.assertIn(option.partition("=")[0], known)

    def test_names(self):
        headers = "".join(path.read_text() for path in (guide.ROOT / "include/sendq").iterdir())
        named = set(re.findall(r"\b(?:sendq|SENDQ)_\w+\b(?!\.)", WITHOUT_BLOCKS))
        self.assertGreater(len(named), 10)
        self.assertEqual(named - set(re.findall(r"\w+", headers)), set())
        known = "".join(map(usage, PROGRAMS.values()))
        for option in re.findall(r"`(--[\w-]+)", WITHOUT_BLOCKS):
            self.assertIn(option, known)


class Stale(unittest.TestCase):
    """A guide that says something else than the sources is found."""

    def check(self, before, after):
        self.assertIn(before, TEXT)
        stale = TEXT.replace(before, after, 1)
        self.assertNotEqual(guide.rewritten(stale), stale)

    def test_snippet(self):
        self.check("item.release();", "item.reset();")

    def test_diff(self):
        self.check("\n+        return sendq_sendmsg(", "\n+        return sendmsg(")
        self.check("\n-    using IovecOutput::IovecOutput;\n", "\n     using IovecOutput::IovecOutput;\n")

    def test_lines(self):
        table = guide.LINES.search(TEXT)[0]
        self.check(table, table.replace("| `sendmsg` | ", "| `sendmsg` | 1"))

    def test_name_that_is_gone(self):
        with self.assertRaises(guide.NotFound):
            guide.rewritten(TEXT.replace("#SendqCopyOutput", "#SendqGoneOutput"))


if __name__ == "__main__":
    unittest.main()
