/* The emulated runtime: devices, memory, streams, and the fibres that a kernel's threads are. */
#include "cuda_runtime.h"

#include "emulated.h"

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <setjmp.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <vector>

static std::recursive_mutex everything;

struct CUstream_st {
    unsigned number; /* of those that were made */
    std::deque<std::function<void()>> queue;
    CUgraph_st *recording; /* what is queued goes there; NULL: it does not */
};

struct CUgraph_st {
    std::vector<std::function<void()>> works;
    bool possible = true;
};

struct CUgraphExec_st {
    std::vector<std::function<void()>> works;
};

struct CUevent_st {
    cudaStream_t stream;         /* that it was last recorded on */
    unsigned long recorded, met; /* how often, and by the stream */
    double seconds;              /* when it was last met */
};

struct allocation {
    size_t bytes;        /* as asked for */
    void *mapping;       /* with the guard page */
    size_t mapped_bytes; /* without it */
    int device;
};

static std::map<void *, allocation> device_memory;
static std::set<std::pair<char *, char *>> pinned; /* from, to */
static std::map<int, size_t> used_bytes;
static thread_local int current_device;
static cudaError_t lost = cudaSuccess;
static long long launches;
static int running; /* work is being done: memory is open */

static long long setting(const char *name, long long otherwise) {
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? atoll(text) : otherwise;
}

static size_t memory_of_device() {
    return (size_t)setting("GWTF_EMULATED_MEMORY", 1ll << 30);
}

static void open_memory(bool open) {
    for (auto &entry : device_memory)
        mprotect(entry.second.mapping, entry.second.mapped_bytes,
                 open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

/* Does what is queued, or as much of it as brings EVENT to COUNT. */
static void run(cudaStream_t stream, const CUevent_st *event = NULL, unsigned long count = 0) {
    if (stream->queue.empty())
        return;
    if (running++ == 0)
        open_memory(true);
    while (!stream->queue.empty() && (event == NULL || event->met < count)) {
        std::function<void()> work = std::move(stream->queue.front());
        stream->queue.pop_front();
        work();
    }
    if (--running == 0)
        open_memory(false);
}

/* A stream that nobody waits for may still have got far. */
static bool is_eager(cudaStream_t stream) {
    return (setting("GWTF_EMULATED_EAGER", 0) >> stream->number % 3 & 1) != 0;
}

/* Also what a device that is lost no longer does. */
static void queue_always(cudaStream_t stream, std::function<void()> work) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    stream->queue.push_back(std::move(work));
    if (running == 0 && is_eager(stream))
        run(stream);
}

void gwtf_emulated_queue(cudaStream_t stream, std::function<void()> work) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    std::function<void()> unless_lost = [=] {
        if (lost == cudaSuccess)
            work();
    };
    if (stream->recording != NULL)
        stream->recording->works.push_back(std::move(unless_lost));
    else
        queue_always(stream, std::move(unless_lost));
}

/* Streams that exist, since freeing memory waits for all. */
static std::set<cudaStream_t> streams;

static void run_all() {
    for (cudaStream_t stream : streams)
        run(stream);
}

const char *cudaGetErrorName(cudaError_t error) {
    switch (error) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice:
        return "cudaErrorNoDevice";
    case cudaErrorECCUncorrectable:
        return "cudaErrorECCUncorrectable";
    case cudaErrorStreamCaptureUnsupported:
        return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
        return "cudaErrorStreamCaptureInvalidated";
    }
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorECCUncorrectable:
        return "uncorrectable ECC error encountered";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    }
    return "unrecognized error code";
}

cudaError_t cudaGetLastError(void) {
    return lost;
}

/* CUDA_VISIBLE_DEVICES may name fewer than there are. */
cudaError_t cudaGetDeviceCount(int *count) {
    *count = (int)setting("GWTF_EMULATED_DEVICES", 1);
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible != NULL) {
        int named = *visible != '\0' ? 1 : 0;
        for (; *visible != '\0'; visible++)
            named += *visible == ',';
        *count = named < *count ? named : *count;
    }
    return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaSetDevice(int device) {
    current_device = device;
    return lost;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr, int) {
    *value = 9;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int) {
    *properties = cudaDeviceProp{};
    snprintf(properties->name, sizeof properties->name, "emulated GPU");
    properties->totalGlobalMem = memory_of_device();
    properties->major = 9;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *all_bytes) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    *all_bytes = memory_of_device();
    *free_bytes = *all_bytes - used_bytes[current_device];
    return lost;
}

/* The end of the memory is followed by a page that nobody may touch. */
cudaError_t cudaMalloc(void **memory, size_t bytes) {
    const size_t page = 4096, start_at = 256;
    std::lock_guard<std::recursive_mutex> hold(everything);
    if (lost != cudaSuccess)
        return lost;
    if (bytes > memory_of_device() - used_bytes[current_device])
        return cudaErrorMemoryAllocation;
    size_t rounded = (bytes + start_at - 1) / start_at * start_at;
    size_t mapped = (rounded + page - 1) / page * page;
    char *mapping = (char *)mmap(NULL, mapped + page, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED)
        return cudaErrorMemoryAllocation;
    char *start = mapping + mapped - rounded;
    memset(mapping, 0xff, mapped);
    mprotect(mapping, mapped + page, PROT_NONE);
    device_memory[start] = allocation{bytes, mapping, mapped, current_device};
    used_bytes[current_device] += bytes;
    *memory = start;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    if (memory == NULL)
        return cudaSuccess;
    auto found = device_memory.find(memory);
    if (found == device_memory.end())
        return cudaErrorInvalidValue;
    run_all();
    used_bytes[found->second.device] -= found->second.bytes;
    munmap(found->second.mapping, found->second.mapped_bytes + 4096);
    device_memory.erase(found);
    return lost;
}

cudaError_t cudaMallocHost(void **memory, size_t bytes) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    if (lost != cudaSuccess)
        return lost;
    char *made = (char *)aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (made == NULL)
        return cudaErrorMemoryAllocation;
    pinned.insert({made, made + bytes});
    *memory = made;
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *memory, size_t bytes, unsigned) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    pinned.insert({(char *)memory, (char *)memory + bytes});
    return lost;
}

cudaError_t cudaHostUnregister(void *memory) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    run_all();
    for (auto i = pinned.begin(); i != pinned.end(); ++i)
        if (i->first == memory) {
            pinned.erase(i);
            return lost;
        }
    return cudaErrorInvalidValue;
}

cudaError_t cudaFreeHost(void *memory) {
    if (memory != NULL && cudaHostUnregister(memory) == cudaErrorInvalidValue)
        return cudaErrorInvalidValue;
    free(memory);
    return cudaSuccess;
}

static bool is_pinned(const void *at) {
    for (const auto &range : pinned)
        if (at >= range.first && at < range.second)
            return true;
    return false;
}

static bool is_on_device(const void *at) {
    auto next = device_memory.upper_bound((void *)at);
    if (next == device_memory.begin())
        return false;
    --next;
    return (const char *)at < (const char *)next->first + next->second.bytes;
}

/* Pageable memory is read, or written, before the call returns; other memory when its turn comes.
 */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    if (lost != cudaSuccess)
        return lost;
    bool up = !is_on_device(from), down = !is_on_device(to);
    enum cudaMemcpyKind meant = up     ? cudaMemcpyHostToDevice
                                : down ? cudaMemcpyDeviceToHost
                                       : cudaMemcpyDeviceToDevice;
    if ((up && down) || (kind != cudaMemcpyDefault && kind != meant))
        return cudaErrorInvalidValue;
    if (stream->recording != NULL && ((up && !is_pinned(from)) || (down && !is_pinned(to)))) {
        stream->recording->possible = false;
        return cudaErrorStreamCaptureUnsupported;
    }
    if (up && !is_pinned(from)) {
        std::vector<char> taken((const char *)from, (const char *)from + bytes);
        gwtf_emulated_queue(stream, [=] { memcpy(to, taken.data(), bytes); });
        return cudaSuccess;
    }
    gwtf_emulated_queue(stream, [=] { memmove(to, from, bytes); });
    if (down && !is_pinned(to))
        run(stream);
    return lost;
}

cudaError_t cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t stream) {
    gwtf_emulated_queue(stream, [=] { memset(at, value, bytes); });
    return lost;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    static unsigned made;
    *stream = new CUstream_st{};
    (*stream)->number = made++;
    streams.insert(*stream);
    return lost;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    run(stream);
    streams.erase(stream);
    delete stream;
    return lost;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    if (stream->recording != NULL) {
        stream->recording->possible = false;
        return cudaErrorStreamCaptureUnsupported;
    }
    run(stream);
    return lost;
}

static void count_launches(size_t more) {
    long long fails_at = setting("GWTF_EMULATED_FAILS_AT", 0);
    launches += (long long)more;
    if (fails_at > 0 && launches >= fails_at)
        lost = cudaErrorECCUncorrectable;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    *event = new CUevent_st{};
    return lost;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    run_all();
    delete event;
    return lost;
}

static double seconds_now() {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    unsigned long count = ++event->recorded;
    event->stream = stream;
    queue_always(stream, [=] {
        event->met = count;
        event->seconds = seconds_now();
    });
    return lost;
}

/* As of now: what is recorded later does not matter. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    unsigned long count = event->recorded;
    cudaStream_t of = event->stream;
    if (count != 0)
        queue_always(stream, [=] {
            if (event->met < count)
                run(of, event, count);
        });
    return lost;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    if (event->met < event->recorded)
        run(event->stream, event, event->recorded);
    return lost;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
    *ms = (float)(1e3 * (to->seconds - from->seconds));
    return lost;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    if (setting("GWTF_EMULATED_NO_GRAPHS", 0) != 0)
        return cudaErrorStreamCaptureUnsupported;
    stream->recording = new CUgraph_st;
    return lost;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    CUgraph_st *recorded = stream->recording;
    stream->recording = NULL;
    if (recorded == NULL || !recorded->possible) {
        delete recorded;
        *graph = NULL;
        return cudaErrorStreamCaptureInvalidated;
    }
    *graph = recorded;
    return lost;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long) {
    *made = new CUgraphExec_st{graph->works};
    return lost;
}

/* A graph counts as the launches in it. */
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    count_launches(graph->works.size());
    std::vector<std::function<void()>> works = graph->works;
    gwtf_emulated_queue(stream, [=] {
        for (const std::function<void()> &work : works)
            work();
    });
    return lost;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return lost;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    delete graph;
    return lost;
}

/* A kernel's threads. */
dim3 gwtf_emulated_thread, gwtf_emulated_block, gwtf_emulated_block_size, gwtf_emulated_grid_size;

namespace {

#define STACK_BYTES ((size_t)128 << 10)

enum state { READY, AT_BARRIER, IN_WARP, ENDED };

struct fibre {
    dim3 place;
    enum state state;
    unsigned collectives; /* that it has been through */
};

/* What a fibre runs on. Made once, and entered by makecontext once: after that a switch is a jump,
 * which asks nothing of the system. */
struct stack {
    ucontext_t context;
    jmp_buf resume;
    bool entered;
};

struct warp {
    std::vector<char> given[2]; /* of collectives in turn */
    unsigned live, arrived;
};

std::vector<fibre> fibres;
std::vector<warp> warps;
std::vector<stack *> stacks;
std::vector<unsigned char> shared_memory;
ucontext_t entered_from;
jmp_buf scheduler;
unsigned now; /* the fibre that runs */
unsigned live, at_barrier;
const std::function<void()> *kernel;

void give_way() {
    stack *own = stacks[now];
    if (_setjmp(own->resume) == 0)
        _longjmp(scheduler, 1);
}

void fibre_main() {
    for (;;) {
        (*kernel)();
        fibres[now].state = ENDED;
        give_way();
    }
}

stack *make_stack() {
    stack *made = new stack{};
    getcontext(&made->context);
    made->context.uc_stack.ss_sp = malloc(STACK_BYTES);
    made->context.uc_stack.ss_size = STACK_BYTES;
    made->context.uc_link = NULL;
    makecontext(&made->context, fibre_main, 0);
    return made;
}

/* Runs fibre I until it ends or waits. */
void resume(unsigned i) {
    stack *its = stacks[i];
    now = i;
    gwtf_emulated_thread = fibres[i].place;
    if (_setjmp(scheduler) != 0)
        return;
    if (its->entered)
        _longjmp(its->resume, 1);
    its->entered = true;
    swapcontext(&entered_from, &its->context);
}

void release_barrier() {
    at_barrier = 0;
    for (fibre &f : fibres)
        if (f.state == AT_BARRIER)
            f.state = READY;
}

void release_warp(unsigned w) {
    warps[w].arrived = 0;
    for (unsigned i = w * 32; i < fibres.size() && i < (w + 1) * 32; i++)
        if (fibres[i].state == IN_WARP)
            fibres[i].state = READY;
}

void fibre_ended(unsigned i) {
    live--;
    warp &w = warps[i / 32];
    w.live--;
    if (live > 0 && at_barrier == live)
        release_barrier();
    if (w.live > 0 && w.arrived == w.live)
        release_warp(i / 32);
}

void run_block() {
    unsigned count = (unsigned)fibres.size();
    live = count;
    at_barrier = 0;
    for (unsigned i = 0; i < warps.size(); i++) {
        warps[i].live = count - i * 32 < 32 ? count - i * 32 : 32;
        warps[i].arrived = 0;
    }
    for (fibre &f : fibres) {
        f.state = READY;
        f.collectives = 0;
    }
    while (live > 0) {
        bool any = false;
        for (unsigned i = 0; i < count; i++) {
            if (fibres[i].state != READY)
                continue;
            any = true;
            resume(i);
            if (fibres[i].state == ENDED)
                fibre_ended(i);
        }
        if (!any) {
            fprintf(stderr, "a kernel stands still: some of its threads wait for the block, some "
                            "for their warp\n");
            abort();
        }
    }
}

void run_kernel(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &body) {
    unsigned count = block.x * block.y * block.z;
    fibres.resize(count);
    warps.resize((count + 31) / 32);
    while (stacks.size() < count)
        stacks.push_back(make_stack());
    for (unsigned i = 0; i < count; i++)
        fibres[i].place = dim3(i % block.x, i / block.x % block.y, i / block.x / block.y);
    kernel = &body;
    gwtf_emulated_block_size = block;
    gwtf_emulated_grid_size = grid;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                gwtf_emulated_block = dim3(x, y, z);
                shared_memory.assign(shared_bytes + 16, 0xff);
                run_block();
            }
}

} // namespace

unsigned char *gwtf_emulated_shared() {
    uintptr_t at = (uintptr_t)shared_memory.data();
    return (unsigned char *)((at + 15) / 16 * 16);
}

void __syncthreads() {
    fibres[now].state = AT_BARRIER;
    if (++at_barrier == live)
        release_barrier();
    if (fibres[now].state == AT_BARRIER)
        give_way();
}

const void *gwtf_emulated_warp_gather(const void *mine, size_t bytes) {
    unsigned self = now;
    warp &w = warps[self / 32];
    std::vector<char> &given = w.given[fibres[self].collectives++ % 2];
    if (w.arrived == 0)
        given.assign(32 * bytes, (char)0xff);
    memcpy(&given[self % 32 * bytes], mine, bytes);
    fibres[self].state = IN_WARP;
    if (++w.arrived == w.live)
        release_warp(self / 32);
    if (fibres[self].state == IN_WARP)
        give_way();
    return given.data();
}

void gwtf_emulated_launch(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                          std::function<void()> body) {
    std::lock_guard<std::recursive_mutex> hold(everything);
    count_launches(1);
    bool possible = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.y <= 65535 && grid.z <= 65535 &&
                    block.x * block.y * block.z <= 1024 && shared_bytes <= 227 * 1024;
    if (!possible && lost == cudaSuccess)
        lost = cudaErrorInvalidValue;
    gwtf_emulated_queue(stream, [=] { run_kernel(grid, block, shared_bytes, body); });
}
