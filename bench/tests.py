#!/usr/bin/env python3
"""Tests of the harness itself: `python3 bench/tests.py`."""
import json
import math
import pathlib
import random
import struct
import tempfile
import unittest
import xml.etree.ElementTree

import compare
import make_model
import report
import server
from harness import gguf, machine, results, svg
from harness.engines import numbers
from harness.randoms import Affine, Bf16, Blocks
from harness.shape import Shape
from harness.vocabulary import byte_letters

CONFIG = {"model_type": "qwen3", "vocab_size": 700, "hidden_size": 64, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 128,
          "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 512, "tie_word_embeddings": True}


def bf16(data):
    return [struct.unpack("<f", b"\0\0" + data[i:i + 2])[0] for i in range(0, len(data), 2)]


class Weights(unittest.TestCase):
    def test_bf16_has_the_size_of_trained_weights(self):
        values = bf16(b"".join(map(bytes, Bf16.parts(random.Random(1), 10, 100))))
        self.assertTrue(all(2**-7 <= abs(v) <= 2**-5 for v in values))
        self.assertTrue(400 < sum(v > 0 for v in values) < 600)

    def test_a_bias_is_exactly_half_the_range_of_its_scale(self):
        for bits in (4, 8):
            scales, biases = map(bf16, Affine(bits, 32).scales_and_biases(random.Random(1), 50))
            self.assertEqual(biases, [-(2 ** (bits - 1)) * scale for scale in scales])
            self.assertTrue(len(set(scales)) > 20)

    def test_blocks_begin_with_a_sane_half_float(self):
        for bits, largest in ((4, 0.01), (8, 0.001)):
            blocks = Blocks(bits)
            data = b"".join(map(bytes, blocks.parts(random.Random(1), 8, 64)))
            self.assertEqual(len(data), blocks.nbytes(8, 64))
            scales = [struct.unpack_from("<e", data, at)[0] for at in range(0, len(data), blocks.size)]
            self.assertTrue(all(largest / 100 < scale < largest for scale in scales), scales)

    def test_files_are_as_long_as_their_headers_say(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "config.json").write_text(json.dumps(CONFIG))
            for kind in ("bf16", "q8", "q4"):
                make_model.make(folder, folder / kind, kind, 32)
                data = (folder / kind / "model.safetensors").read_bytes()
                length = struct.unpack_from("<Q", data)[0]
                header = json.loads(data[8:8 + length])
                end = max(entry["data_offsets"][1] for name, entry in header.items() if name[0] != "_")
                self.assertEqual(len(data), 8 + length + end)
                tokenizer = json.loads((folder / kind / "tokenizer.json").read_text())
                ids = {*tokenizer["model"]["vocab"].values(), *(t["id"] for t in tokenizer["added_tokens"])}
                self.assertEqual(ids, set(range(700)))
                make_model.make(folder, folder / f"{kind}.gguf", kind)
                size = (folder / f"{kind}.gguf").stat().st_size
                blocks = gguf.FORMATS[make_model.GGUF_TYPES[kind]]
                weights = sum(blocks.nbytes(rows, cols) for *_, rows, cols in Shape(folder).matrices())
                self.assertTrue(weights < size < weights + 100_000, size)

    def test_bytes_are_letters_in_gpt2s_way(self):
        letters = byte_letters()
        self.assertEqual((letters[ord("a")], letters[ord(" ")], len(set(letters))), ("a", "\u0120", 256))


class Quiet(unittest.TestCase):
    def test_own_work_is_not_foreign_and_long_work_of_others_is_repeated(self):
        with machine.Meter() as meter:
            sum(range(3_000_000))
        self.assertTrue(meter.wall > 0 and 0 <= meter.foreign <= 1, meter.to_json())
        calls, limit = [], machine.QUIET
        try:
            machine.QUIET = -1
            result, meter = machine.quietly(lambda: calls.append(1) or len(calls))
        finally:
            machine.QUIET = limit
        self.assertEqual(len(calls), machine.ATTEMPTS)
        self.assertIn(result, (1, 2, 3))


class Figures(unittest.TestCase):
    def result(self):
        row = {"weights": "Q4_0", "unit": "tok/s", "goal": 2, "better": "higher"}
        return {"kind": "compare", "date": "2026-01-02", "shape": "tiny", "machine": machine.describe(2),
                "versions": {"Millrace": "1"}, "rounds": 3, "meters": [], "rows": [
                    {**row, "case": "decode", "Millrace": [30, 10, 20], "llama.cpp": [5, 10, 15]},
                    {**row, "case": "TTFT", "better": "lower", "Millrace": [1.0], "llama.cpp": [4.0]}]}

    def test_ratios_are_of_medians_and_in_our_favour(self):
        rows = self.result()["rows"]
        self.assertEqual([results.ratio(row) for row in rows], [2.0, 4.0])

    def test_percentiles_interpolate(self):
        self.assertEqual(server.percentile([4, 1, 3, 2], 50), 2.5)
        self.assertEqual(server.percentile([7], 95), 7)
        self.assertTrue(math.isclose(server.percentile([1, 2, 3, 4], 90), 3.7))

    def test_the_page_is_filled_and_can_be_filled_again(self):
        text = "a\n<!-- figures: compare tiny -->\nold\n<!-- end -->\nb\n<!-- figures: server none -->\n<!-- end -->\n"
        with tempfile.TemporaryDirectory() as folder:
            results.save(self.result(), folder)
            pathlib.Path(folder, "other.json").write_text("{}")
            page = report.Page(folder, pathlib.Path(folder) / "img")
            filled = page.fill(text)
        self.assertIn("| Q4_0 | decode, tok/s | 20.0 | 10.0 | 2.00 | ≥ 2 |", filled)
        self.assertIn(report.NOTHING, filled)
        self.assertNotIn("old", filled)
        self.assertEqual(page.fill(filled), filled)

    def test_plots_are_well_formed(self):
        lines = [svg.Line("a < b", [(1, 10), (64, 900)], 0), svg.Line("c", [(1, 5)], 1, dashed=True)]
        picture = svg.plot("T & U", "x", "y", lines)
        root = xml.etree.ElementTree.fromstring(picture)
        self.assertEqual(len(root.findall("{*}polyline")), 2)

    def test_every_goal_is_measured(self):
        for kind in ("Q4_0", "Q8_0", "BF16"):
            sets = compare.cases("goals", kind)
            self.assertEqual({(kind, what, n) for what, values in sets.items() for n in values},
                             {goal for goal in compare.GOALS if goal[0] == kind})
        self.assertEqual(numbers(("batch", [4])), {4: (128, 64, 4)})


if __name__ == "__main__":
    unittest.main()
