// The options of an instance: what an operator writes below `[tier.options]`.
#ifndef OPTIONS_H
#define OPTIONS_H

#include "cachekit_plugin.h"

enum { MOST_NAME = 64 };

typedef struct {
    char name[MOST_NAME + 1]; // instances of one process with the same name share a store
    uint64_t max_bytes;       // memory for keys, values and their records
} Options;

// Reads `json` (empty: all defaults). On failure `err` names the field at fault.
int32_t options_parse(CkSlice json, Options *options, CkError *err);

// JSON Schema of the options.
extern const char OPTIONS_SCHEMA[];

#endif
