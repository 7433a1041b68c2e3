/* The few types that every folder shares. */
#ifndef GWTF_SHARE_BASE_TYPES_H
#define GWTF_SHARE_BASE_TYPES_H

#include <stdint.h>

/* A node of the run. Given once, never used again for another node. */
typedef uint32_t gwtf_node_id;
#define GWTF_NODE_NONE UINT32_MAX

/* Microseconds: of a monotonic clock in the worker, of virtual time in the simulator. */
typedef int64_t gwtf_time_us;
#define GWTF_TIME_NEVER INT64_MAX

/* A flow of the flow table, unique in the run; 0 is no flow. */
typedef uint64_t gwtf_flow_id;
#define GWTF_FLOW_NONE 0u

#endif
