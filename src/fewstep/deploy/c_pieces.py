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
    "clip": """\
static inline float fs_clip(float x, float low, float high)
{
    return x < low ? low : (x > high ? high : x);
}
""",
}
"""Functions of one number by name."""

NEEDS = {op: ("exp_cut", op) for op in ("exp", "gelu", "silu", "tanh")}


def scalars(op: str) -> tuple[str, ...]:
    """The functions of one number that the operation uses."""
    return NEEDS.get(op, (op,) if op in SCALARS else ())


def elementwise(op: str, n: int) -> str:
    """A loop over ``n`` numbers."""
    arguments, value = {
        "clip": ("float low, float high, const float *restrict x", "fs_clip(x[i], low, high)"),
        "axpy": ("float k, const float *restrict x, const float *restrict y", "y[i] + k * x[i]"),
        "add": ("const float *restrict x, const float *restrict y", "x[i] + y[i]"),
        "mul": ("const float *restrict x, const float *restrict y", "x[i] * y[i]"),
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

RANDOM_HEADER = """
/* Noise from inside: xoshiro128++ (Blackman and Vigna), seeded through splitmix64, and the Box-Muller
   transform of 24-bit uniforms. One generator per thread; the same seed gives the same actions. */
typedef struct { uint32_t s[4]; } fewstep_rng;
void fewstep_seed(fewstep_rng *rng, uint64_t seed);
void fewstep_act_seeded(fewstep_rng *rng, const float *obs, float *action);
"""

RANDOM = """\
static uint64_t fs_splitmix64(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint32_t fs_rotate(uint32_t x, int k)
{
    return (x << k) | (x >> (32 - k));
}

static uint32_t fs_next(uint32_t s[4])
{
    const uint32_t result = fs_rotate(s[0] + s[3], 7) + s[0];
    const uint32_t t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = fs_rotate(s[3], 11);
    return result;
}

void fewstep_seed(fewstep_rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i += 2) {
        const uint64_t z = fs_splitmix64(&seed);
        rng->s[i] = (uint32_t)z;
        rng->s[i + 1] = (uint32_t)(z >> 32);
    }
}

void fewstep_act_seeded(fewstep_rng *rng, const float *obs, float *action)
{
    float noise[FEWSTEP_NOISE_SIZE];
    for (int i = 0; i < FEWSTEP_NOISE_SIZE; i += 2) {
        const float u = (float)((fs_next(rng->s) >> 8) + 1) * 0x1p-24f; /* in (0, 1] */
        const float angle = (float)(fs_next(rng->s) >> 8) * (6.28318530718f * 0x1p-24f);
        const float radius = sqrtf(-2.0f * logf(u));
        noise[i] = radius * cosf(angle);
        if (i + 1 < FEWSTEP_NOISE_SIZE)
            noise[i + 1] = radius * sinf(angle);
    }
    fewstep_act(obs, noise, action);
}
"""
