/* A stand-in for libnvidia-ml.so.1: what a file says stands in for a driver. Only what academy.gpus.inventory asks for.
 *
 * The file, named by STANDIN_NVML, is read at every call; numbers are MiB and percent, "-" is "the driver does not say":
 *   gpu UUID MODEL MEMORY USED PERCENT        a device; "mig" behind it: it is split into the slices that follow
 *   slice UUID MODEL MEMORY USED -            of the GPU above; it has no utilisation, as with the real library
 *   process UUID PID MEMORY PERCENT           runs on a device; "-" as its percent: the device does not tell processes' use
 *   fail FUNCTION UUID-OR-* CODE              what the library answers instead
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };
enum { MOST = 64 };

struct device { char uuid[96], model[96]; int parent, mig, memory, used, percent; };
struct process { char uuid[96]; unsigned pid; int memory, percent; };
struct failure { char function[96], uuid[96]; int code; };

static struct device devices[MOST];
static struct process processes[MOST];
static struct failure failures[MOST];
static int device_count, process_count, failure_count;

static int number(const char *text) { return strcmp(text, "-") ? atoi(text) : -1; }

/* Read the file; 0 if there is none. Devices keep their places in it: handles are places. */
static int look(void)
{
    const char *path = getenv("STANDIN_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512], a[96], b[96], c[96], d[96], e[96], f[96];
    int gpu = -1;
    device_count = process_count = failure_count = 0;
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        int found = sscanf(line, "%95s %95s %95s %95s %95s %95s", a, b, c, d, e, f);
        int is_slice = found > 0 && !strcmp(a, "slice");
        if (found >= 6 && (is_slice || !strcmp(a, "gpu"))) {
            struct device *one = &devices[device_count];
            snprintf(one->uuid, sizeof one->uuid, "%s", b);
            snprintf(one->model, sizeof one->model, "%s", c);
            one->memory = number(d), one->used = number(e), one->percent = number(f);
            one->mig = strstr(line, " mig") != NULL;
            one->parent = is_slice ? gpu : -1;
            if (!is_slice) gpu = device_count;
            device_count++;
        } else if (found >= 5 && !strcmp(a, "process")) {
            struct process *one = &processes[process_count++];
            snprintf(one->uuid, sizeof one->uuid, "%s", b);
            one->pid = (unsigned)atoi(c), one->memory = number(d), one->percent = number(e);
        } else if (found >= 4 && !strcmp(a, "fail")) {
            struct failure *one = &failures[failure_count++];
            snprintf(one->function, sizeof one->function, "%s", b);
            snprintf(one->uuid, sizeof one->uuid, "%s", c);
            one->code = number(d);
        }
    }
    fclose(file);
    return 1;
}

/* The device of a handle, or what to answer instead. */
static int find(void *handle, const char *function, struct device **found)
{
    size_t place = (size_t)handle;
    if (!look()) return DRIVER_NOT_LOADED;
    if (place < 1 || place > (size_t)device_count) return INVALID;
    *found = &devices[place - 1];
    for (int i = 0; i < failure_count; i++)
        if (!strcmp(failures[i].function, function) && (!strcmp(failures[i].uuid, "*") || !strcmp(failures[i].uuid, (*found)->uuid)))
            return failures[i].code;
    return OK;
}

#define FIND(name)                                    \
    struct device *one;                               \
    int code = find(handle, name, &one);              \
    if (code) return code

int nvmlInitWithFlags(unsigned flags) { (void)flags; return look() ? OK : DRIVER_NOT_LOADED; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code)
{
    static char text[64];
    snprintf(text, sizeof text, "stand-in error %d", code);
    return text;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    if (!look()) return DRIVER_NOT_LOADED;
    *count = 0;
    for (int i = 0; i < device_count; i++) *count += devices[i].parent < 0;
    return OK;
}

/* The handle of a GPU's number-th child, or with parent -1 of the number-th GPU. */
static int child(int parent, unsigned number, void **handle)
{
    for (int i = 0; i < device_count; i++)
        if (devices[i].parent == parent && number-- == 0) { *handle = (void *)(size_t)(i + 1); return OK; }
    return NOT_FOUND;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle)
{
    struct device *one;
    int code = look() ? child(-1, index, handle) : DRIVER_NOT_LOADED;
    return code ? code : find(*handle, "nvmlDeviceGetHandleByIndex", &one);
}

int nvmlDeviceGetUUID(void *handle, char *text, unsigned size)
{
    FIND("nvmlDeviceGetUUID");
    snprintf(text, size, "%s", one->uuid);
    return OK;
}

int nvmlDeviceGetName(void *handle, char *text, unsigned size)
{
    FIND("nvmlDeviceGetName");
    snprintf(text, size, "%s", one->model);
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long memory[3])
{
    FIND("nvmlDeviceGetMemoryInfo");
    memory[0] = (unsigned long long)one->memory << 20, memory[2] = (unsigned long long)one->used << 20;
    memory[1] = memory[0] - memory[2];
    return OK;
}

int nvmlDeviceGetUtilizationRates(void *handle, unsigned percent[2])
{
    FIND("nvmlDeviceGetUtilizationRates");
    if (one->percent < 0) return NOT_SUPPORTED;
    percent[0] = (unsigned)one->percent, percent[1] = 0;
    return OK;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending)
{
    FIND("nvmlDeviceGetMigMode");
    *current = *pending = (unsigned)one->mig;
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count)
{
    FIND("nvmlDeviceGetMaxMigDeviceCount");
    *count = 7;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **found)
{
    FIND("nvmlDeviceGetMigDeviceHandleByIndex");
    return child((int)(one - devices), index, found);
}

struct running { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; };

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, struct running *list)
{
    unsigned room = *count;
    FIND("nvmlDeviceGetComputeRunningProcesses");
    *count = 0;
    for (int i = 0; i < process_count; i++)
        if (!strcmp(processes[i].uuid, one->uuid)) {
            if (*count < room) {
                struct running entry = {processes[i].pid, (unsigned long long)processes[i].memory << 20, ~0u, ~0u};
                list[*count] = entry;
            }
            ++*count;
        }
    return *count > room ? INSUFFICIENT_SIZE : OK;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, struct running *list)
{
    (void)list;
    FIND("nvmlDeviceGetGraphicsRunningProcesses");
    *count = 0;
    return OK;
}

struct use { unsigned pid; unsigned long long at; unsigned sm, memory, encoder, decoder; };

int nvmlDeviceGetProcessUtilization(void *handle, struct use *list, unsigned *count, unsigned long long since)
{
    unsigned room = list ? *count : 0;
    struct timespec now;
    FIND("nvmlDeviceGetProcessUtilization");
    if (one->parent >= 0 || one->mig) return NOT_SUPPORTED;
    clock_gettime(CLOCK_REALTIME, &now);
    unsigned long long at = (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
    *count = 0;
    for (int i = 0; i < process_count; i++)
        if (!strcmp(processes[i].uuid, one->uuid)) {
            if (processes[i].percent < 0) return NOT_SUPPORTED;
            if (processes[i].percent == 0 || at <= since) continue; /* the library has samples of use alone */
            if (*count < room) {
                struct use entry = {processes[i].pid, at, (unsigned)processes[i].percent, 0, 0, 0};
                list[*count] = entry;
            }
            ++*count;
        }
    if (!*count) return NOT_FOUND;
    return *count > room ? INSUFFICIENT_SIZE : OK;
}
