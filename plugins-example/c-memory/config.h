// The options of an instance, from JSON.
#ifndef CMEM_CONFIG_H
#define CMEM_CONFIG_H

#include "cachekit_plugin.h"

// Longest key, bytes.
#define MAX_KEY 65536u

typedef struct {
    uint64_t max_bytes;
    uint64_t max_entries;
} Config;

// Reads `json` (empty: all defaults) into `config`. On failure `err` names the field at fault.
int32_t config_parse(CkSlice json, Config *config, CkError *err);

// JSON Schema of the options.
extern const char CONFIG_SCHEMA[];

#endif
