// What ThreadSanitizer must be told of a standard library that was built without it.
//
// What is generic or inlined there (the fast way of a lock, every unlock, Arc, channels) is compiled with the crate,
// and instrumented. The slow ways are in the library, and what they order is not seen: each is wrapped here (`--wrap`
// of the linker) and says it. By its address a lock is the same to both halves.
//
// The names are mangled, with a hash of the toolchain: scripts/thread-sanitizer finds them and defines them.
#include <stdbool.h>
#include <stdint.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define JOIN(prefix, name) prefix##name
#define WRAPPED(name) JOIN(__wrap_, name)
#define REAL(name) JOIN(__real_, name)

// Mutex::lock_contended, RwLock::read_contended and write_contended: who returns holds the lock, and whoever held it
// before gave it back by instrumented code.
#define TAKEN(name) \
    void REAL(name)(void *lock); \
    void WRAPPED(name)(void *lock) { \
        REAL(name)(lock); \
        __tsan_acquire(lock); \
    }
TAKEN(MUTEX_LOCK)
TAKEN(RWLOCK_READ)
TAKEN(RWLOCK_WRITE)

// Condvar::wait gives its mutex back, and takes it again.
void REAL(CONDVAR_WAIT)(void *condvar, void *mutex);
void WRAPPED(CONDVAR_WAIT)(void *condvar, void *mutex) {
    __tsan_release(mutex);
    REAL(CONDVAR_WAIT)(condvar, mutex);
    __tsan_acquire(mutex);
}

// So does Condvar::wait_timeout, with a Duration.
bool REAL(CONDVAR_WAIT_TIMEOUT)(void *condvar, void *mutex, uint64_t seconds, uint32_t nanoseconds);
bool WRAPPED(CONDVAR_WAIT_TIMEOUT)(void *condvar, void *mutex, uint64_t seconds, uint32_t nanoseconds) {
    __tsan_release(mutex);
    bool in_time = REAL(CONDVAR_WAIT_TIMEOUT)(condvar, mutex, seconds, nanoseconds);
    __tsan_acquire(mutex);
    return in_time;
}

// Once::call, of OnceLock and LazyLock too: self, whether poison is ignored, the two halves of a &mut dyn FnMut, and
// where it was called. What the closure did is released when it ends, before anybody can find it done: so another one
// is called around it. The function stands fifth in the closure's table.
struct around {
    void *closure, **table, *once;
};
static void run(struct around *around, void *state) {
    ((void (*)(void *, void *))around->table[4])(around->closure, state);
    __tsan_release(around->once);
}
static void *const around_table[5] = {0, (void *)sizeof(struct around), (void *)_Alignof(struct around), 0, run};

void REAL(ONCE_CALL)(void *once, bool ignore_poisoning, void *closure, void *const *table, void *location);
void WRAPPED(ONCE_CALL)(void *once, bool ignore_poisoning, void *closure, void **table, void *location) {
    struct around around = {closure, table, once};
    REAL(ONCE_CALL)(once, ignore_poisoning, &around, around_table, location);
    __tsan_acquire(once);
}

// Barrier::wait gives a BarrierWaitResult, one bool.
bool REAL(BARRIER_WAIT)(void *barrier);
bool WRAPPED(BARRIER_WAIT)(void *barrier) {
    __tsan_release(barrier);
    bool is_leader = REAL(BARRIER_WAIT)(barrier);
    __tsan_acquire(barrier);
    return is_leader;
}

// A thread of thread::scope ends: whoever waits loads a counter, which is in one of the first words.
void REAL(SCOPE_END)(void *scope, bool panicked);
void WRAPPED(SCOPE_END)(void *scope, bool panicked) {
    for (int word = 0; word < 3; word++)
        __tsan_release((char *)scope + 8 * word);
    REAL(SCOPE_END)(scope, panicked);
}

// Whoever gives up an Arc releases its counter, and the last one synchronizes with the others by a fence, which
// ThreadSanitizer does not know. Here each acquires with its release: the last has then seen all others.
int64_t REAL(__tsan_atomic64_fetch_sub)(volatile int64_t *counter, int64_t count, int order);
int64_t WRAPPED(__tsan_atomic64_fetch_sub)(volatile int64_t *counter, int64_t count, int order) {
    return REAL(__tsan_atomic64_fetch_sub)(counter, count, order == __ATOMIC_RELEASE ? __ATOMIC_ACQ_REL : order);
}
