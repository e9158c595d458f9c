"""The C text of noise from inside, kept out of ``fewstep_act``: a small generator and its transform."""

HEADER = """
/* Noise from inside: xoshiro128++ (Blackman and Vigna), seeded through splitmix64, and the Box-Muller
   transform of 24-bit uniforms. One generator per thread; the same seed gives the same actions. */
typedef struct { uint32_t s[4]; } fewstep_rng;
void fewstep_seed(fewstep_rng *rng, uint64_t seed);
void fewstep_noise(fewstep_rng *rng, float *noise); /* writes noise[FEWSTEP_NOISE_SIZE] */
void fewstep_act_seeded(fewstep_rng *rng, const float *obs, float *action);
"""

SOURCE = """\
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

void fewstep_noise(fewstep_rng *rng, float *noise)
{
    for (int i = 0; i < FEWSTEP_NOISE_SIZE; i += 2) {
        const float u = (float)((fs_next(rng->s) >> 8) + 1) * 0x1p-24f; /* in (0, 1] */
        const float angle = (float)(fs_next(rng->s) >> 8) * (6.28318530718f * 0x1p-24f);
        const float radius = sqrtf(-2.0f * logf(u));
        noise[i] = radius * cosf(angle);
        if (i + 1 < FEWSTEP_NOISE_SIZE)
            noise[i + 1] = radius * sinf(angle);
    }
}

void fewstep_act_seeded(fewstep_rng *rng, const float *obs, float *action)
{
    float noise[FEWSTEP_NOISE_SIZE];
    fewstep_noise(rng, noise);
    fewstep_act(obs, noise, action);
}
"""
