/* The exported policy for a page: buffers that JavaScript reads and writes, and one call. */
#include "policy.h"

static float obs[FEWSTEP_OBS_SIZE], action[FEWSTEP_ACT_SIZE];
static fewstep_rng rng;

float *obs_buffer(void) { return obs; }
float *action_buffer(void) { return action; }
int obs_size(void) { return FEWSTEP_OBS_SIZE; }
int act_size(void) { return FEWSTEP_ACT_SIZE; }
void seed(unsigned value) { fewstep_seed(&rng, value); }
void act(void) { fewstep_act_seeded(&rng, obs, action); }
