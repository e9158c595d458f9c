"""The C text of each operation. Loops have constant bounds, so that gcc vectorises them at -O2 already."""

SCALARS = {
    "exp_cut": """\
/* exp(x) to about one unit in the last place, with |x| cut to 87 (a NaN too). Comparisons are of integers,
   because gcc vectorises no loop with a choice between floats that may trap. */
static inline float fs_exp_cut(float x)
{
    union { float value; int32_t bits; } c, two_to_n;
    int32_t size, sign, n;
    float r, p;
    c.value = x;
    size = c.bits & 0x7fffffff;
    sign = c.bits ^ size;
    size = size < 0x42ae0000 ? size : 0x42ae0000; /* the bits of 87 */
    c.bits = sign | size;
    n = (int32_t)(c.value * 1.44269504f + 128.5f) - 128;
    r = (c.value - (float)n * 0.693359375f) + (float)n * 2.12194440e-4f;
    p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    two_to_n.bits = (n + 127) << 23;
    return p * two_to_n.value;
}
""",
    "exp": """\
static inline float fs_exp(float x)
{
    return fs_exp_cut(x) + 0.0f * x; /* NaN stays NaN */
}
""",
    "gelu": """\
/* The tanh form of GELU: 0.5 x (1 + tanh(u)) = x / (1 + exp(-2 u)). */
static inline float fs_gelu(float x)
{
    return x / (1.0f + fs_exp_cut(-1.5957691216f * (x + 0.044715f * x * x * x)));
}
""",
    "silu": """\
static inline float fs_silu(float x)
{
    return x / (1.0f + fs_exp_cut(-x));
}
""",
    "tanh": """\
static inline float fs_tanh(float x)
{
    return 1.0f - 2.0f / (1.0f + fs_exp_cut(2.0f * x)) + 0.0f * x; /* NaN stays NaN */
}
""",
    "relu": """\
static inline float fs_relu(float x)
{
    return x < 0.0f ? 0.0f : x;
}
""",
    "sigmoid": """\
static inline float fs_sigmoid(float x)
{
    return 1.0f / (1.0f + fs_exp_cut(-x)) + 0.0f * x; /* NaN stays NaN */
}
""",
    "softplus": """\
static inline float fs_softplus(float x)
{
    return (x < 0.0f ? 0.0f : x) + log1pf(fs_exp_cut(-fabsf(x)));
}
""",
    "clip": """\
static inline float fs_clip(float x, float low, float high)
{
    return x < low ? low : (x > high ? high : x);
}
""",
}
"""Functions of one number by name."""

NEEDS: dict[str, tuple[str, ...]] = {
    **{op: ("exp_cut", op) for op in ("exp", "gelu", "silu", "tanh", "sigmoid", "softplus")},
    "softmax": ("exp_cut",),
}


def scalars(op: str) -> tuple[str, ...]:
    """The functions of one number that the operation uses."""
    return NEEDS.get(op, (op,) if op in SCALARS else ())


def elementwise(op: str, n: int) -> str:
    """A loop over ``n`` numbers."""
    arguments, value = {
        "clip": ("float low, float high, const float *restrict x", "fs_clip(x[i], low, high)"),
        "add": ("const float *restrict x, const float *restrict y", "x[i] + y[i]"),
        "mul": ("const float *restrict x, const float *restrict y", "x[i] * y[i]"),
        "min": ("const float *restrict x, const float *restrict y", "x[i] < y[i] ? x[i] : y[i]"),
        "sqrt": ("const float *restrict x", "sqrtf(x[i])"),
        "reciprocal": ("const float *restrict x", "1.0f / x[i]"),
        "sin": ("const float *restrict x", "sinf(x[i])"),
        "cos": ("const float *restrict x", "cosf(x[i])"),
        "box": (
            "const float *restrict a, const float *restrict low, const float *restrict high",
            "0.5f * (1.0f - a[i]) * low[i] + 0.5f * (1.0f + a[i]) * high[i]",
        ),
    }.get(op, ("const float *restrict x", f"fs_{op}(x[i])"))
    return f"""\
static void {op}_{n}({arguments}, float *restrict out)
{{
    for (int i = 0; i < {n}; i++)
        out[i] = {value};
}}
"""


def affine(n: int, m: int) -> str:
    """out = x weight + bias with weight[n][m], accumulated row by row, four rows at a time."""
    blocks = n - n % 4
    text = f"""\
static void affine_{n}_{m}(const float *restrict x, const float *restrict weight, const float *restrict bias,
    float *restrict out)
{{
    for (int j = 0; j < {m}; j++)
        out[j] = bias[j];
"""
    if blocks:
        text += f"""\
    for (int i = 0; i < {blocks}; i += 4) {{
        const float *restrict w = weight + i * {m};
        const float a = x[i], b = x[i + 1], c = x[i + 2], d = x[i + 3];
        for (int j = 0; j < {m}; j++)
            out[j] += a * w[j] + b * w[j + {m}] + c * w[j + {2 * m}] + d * w[j + {3 * m}];
    }}
"""
    if blocks < n:
        text += f"""\
    for (int i = {blocks}; i < {n}; i++)
        for (int j = 0; j < {m}; j++)
            out[j] += x[i] * weight[i * {m} + j];
"""
    return text + "}\n"


def norm(op: str, n: int) -> str:
    """``layer_norm`` or ``rms_norm`` of ``n`` numbers, given its ``MEANS``."""
    if op == "rms_norm":
        return f"""\
static void rms_norm_{n}(const float *restrict x, float *restrict out)
{{
    const float k = 1.0f / sqrtf(mean_square_{n}(x) + 1e-6f);
    for (int i = 0; i < {n}; i++)
        out[i] = x[i] * k;
}}
"""
    return f"""\
static void layer_norm_{n}(const float *restrict x, const float *restrict scale, const float *restrict bias,
    float *restrict out)
{{
    const float mean = mean_{n}(x);
    float k;
    for (int i = 0; i < {n}; i++)
        out[i] = x[i] - mean;
    k = 1.0f / sqrtf(mean_square_{n}(out) + 1e-6f);
    for (int i = 0; i < {n}; i++)
        out[i] = out[i] * k * scale[i] + bias[i];
}}
"""


def softmax(n: int) -> str:
    """exp(x) over its sum; the largest is subtracted first, so that nothing overflows."""
    return f"""\
static void softmax_{n}(const float *restrict x, float *restrict out)
{{
    float largest = x[0], sum = 0.0f;
    for (int i = 1; i < {n}; i++)
        largest = x[i] > largest ? x[i] : largest;
    for (int i = 0; i < {n}; i++)
        out[i] = fs_exp_cut(x[i] - largest);
    for (int i = 0; i < {n}; i++)
        sum += out[i];
    sum = 1.0f / sum;
    for (int i = 0; i < {n}; i++)
        out[i] *= sum;
}}
"""


def best(rows: int, n: int) -> str:
    """The row of x[rows][n] whose value is the highest, the first of equal ones."""
    return f"""\
static void best_{rows}_{n}(const float *restrict x, const float *restrict value, float *restrict out)
{{
    int chosen = 0;
    for (int i = 1; i < {rows}; i++)
        if (value[i] > value[chosen])
            chosen = i;
    for (int i = 0; i < {n}; i++)
        out[i] = x[chosen * {n} + i];
}}
"""


def copy(name: str, count: int, source: str) -> str:
    """``slice``, ``rows`` and ``repeat``, which move numbers and change none."""
    return f"""\
static void {name}(const float *restrict x, float *restrict out)
{{
    for (int i = 0; i < {count}; i++)
        out[i] = x[{source}];
}}
"""


def mean(name: str, n: int) -> str:
    """``mean`` of x or ``mean_square``, in eight running sums: a single one waits for every addition."""
    value = {"mean": "x[{i}]", "mean_square": "x[{i}] * x[{i}]"}[name]
    lanes = min(8, n)
    blocks = n - n % lanes
    tail = ""
    if blocks < n:
        tail = f"""\
    for (int i = {blocks}; i < {n}; i++)
        lanes[i - {blocks}] += {value.format(i="i")};
"""
    return f"""\
static float {name}_{n}(const float *restrict x)
{{
    float lanes[{lanes}] = {{0.0f}};
    float sum = 0.0f;
    for (int i = 0; i < {blocks}; i += {lanes})
        for (int k = 0; k < {lanes}; k++)
            lanes[k] += {value.format(i="i + k")};
{tail}    for (int k = 0; k < {lanes}; k++)
        sum += lanes[k];
    return sum / {n}.0f;
}}
"""


MEANS = {"rms_norm": ("mean_square",), "layer_norm": ("mean", "mean_square")}
"""The means that each normalisation calls."""
