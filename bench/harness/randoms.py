"""Random weights in the formats of checkpoints, as bytes, with nothing but the standard library.

Each format is a class with `nbytes(rows, cols)` and `parts(random, rows, cols)`, which yields the bytes in pieces.
Values are about as large as a trained model's (0.02), so that nothing overflows or becomes zero on its way through
the layers; what such a model says is noise.
"""

PIECE = 1 << 24
# Every byte to one of a few, to give a random number its sign and the upper bits of its exponent.
BF16_TOP = bytes(0xBC if byte & 1 else 0x3C for byte in range(256))


def pieces(total, step):
    """Counts of at most `step` that add up to `total`."""
    for start in range(0, total, step):
        yield min(step, total - start)


class Bf16:
    """bfloat16 of magnitude 2^-7 to 2^-5, either sign."""

    @staticmethod
    def nbytes(rows, cols):
        return rows * cols * 2

    @staticmethod
    def parts(random, rows, cols):
        for count in pieces(rows * cols, PIECE):
            part = bytearray(2 * count)
            part[0::2] = random.randbytes(count)
            part[1::2] = random.randbytes(count).translate(BF16_TOP)
            yield part


class Bytes:
    """Integers of any width that fills its bytes: every bit at random."""

    @staticmethod
    def parts(random, total):
        for count in pieces(total, PIECE):
            yield random.randbytes(count)


class Affine:
    """MLX's integers: `q · scale + bias` per group, bias = -2^(bits-1) · scale, which bfloat16 holds exactly.

    The upper byte of a scale, the lower bit of its exponent (in the lower byte), and the same of its bias.
    """

    TOPS = {4: (0x3B, 0x80, 0xBD, 0x00), 8: (0x39, 0x80, 0xBD, 0x00)}

    def __init__(self, bits, group):
        self.bits, self.group = bits, group

    def scales_and_biases(self, random, count):
        """Two runs of `count` bfloat16s with the same mantissas."""
        mantissas = random.randbytes(count)
        scale_top, scale_bit, bias_top, bias_bit = self.TOPS[self.bits]
        return self._bf16(mantissas, scale_top, scale_bit), self._bf16(mantissas, bias_top, bias_bit)

    @staticmethod
    def _bf16(mantissas, top, bit):
        numbers = bytearray(2 * len(mantissas))
        numbers[0::2] = mantissas.translate(bytes(byte & 0x7F | bit for byte in range(256)))
        numbers[1::2] = bytes([top]) * len(mantissas)
        return numbers


class Blocks:
    """GGUF's Q4_0 and Q8_0: per 32 values a float16 scale and then the integers."""

    def __init__(self, bits):
        self.size = 2 + 32 * bits // 8
        # The upper byte of the float16: sign and exponent for about 0.005 or 0.0003, and two bits of mantissa.
        top = {4: 0x1C, 8: 0x0C}[bits]
        self.tops = bytes(top | byte & 3 for byte in range(256))

    def nbytes(self, rows, cols):
        return rows * cols // 32 * self.size

    def parts(self, random, rows, cols):
        for count in pieces(rows * cols // 32, PIECE // self.size):
            part = bytearray(random.randbytes(count * self.size))
            part[1::self.size] = part[1::self.size].translate(self.tops)
            yield part


def ones_f32(count):
    return b"\x00\x00\x80\x3f" * count


def ones_bf16(count):
    return b"\x80\x3f" * count
