/* SPDX-License-Identifier: MIT */
/*
 * How the two sides of the ring sleep and wake each other (proto/ring.h, "Sleeping"): the daemon, and the
 * threads of one client. Memory is sequentially consistent, as all accesses are that matter here, and each
 * access is a step of its own. Nobody has a timeout, so whoever is not woken never returns.
 *
 * What is checked: entries are done once, in order and as they were put; everybody comes to
 * an end (no invalid end state); under weak fairness each published entry is done, and all
 * threads see the end; with CHAINS_PER_TAKE, that no more rounds of waking follow one wakeup of the daemon's.
 * run.sh has the sizes.
 *
 * FUTEX_WAKE wakes any sleeper, not the first: threads have priorities.
 *
 * With one of these defined the protocol is wrong, and that must be found:
 *   DAEMON_LOOKS_FIRST      the daemon looks at tail, then says that it sleeps
 *   CLIENT_LOOKS_FIRST      a thread looks at head, then says that it waits
 *   DAEMON_PUBLISHES_LAST   the daemon looks whether somebody waits, then publishes
 *   CLIENT_PUBLISHES_LAST   a thread looks whether the daemon sleeps, then publishes
 *   BELL_IS_FORGOTTEN       the bell wakes only who sleeps already
 *   HEAD_IS_FUTEX           a thread sleeps as long as head is what it saw
 *   WORD_IS_FLAG            the word is 1 or 0, not a number
 *   NO_CHAIN                who was woken wakes nobody
 *   CHAIN_IF_SERVED         who was woken wakes the others only if head is another than before
 *   CHAIN_ALWAYS            who was woken wakes the others, whoever it was woken by
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef OWN
#define OWN 2 /* entries of the first thread */
#endif
#ifndef OTHERS
#define OTHERS 1 /* ... and of each other one */
#endif
#ifndef CAPACITY
#define CAPACITY 2 /* RING_ENTRIES */
#endif
#ifndef SIGNALS
#define SIGNALS 1 /* how often a thread returns from FUTEX_WAIT for no reason, and the daemon from poll() */
#endif
#define TOTAL (OWN + (THREADS - 1) * OTHERS)
#define MY_OWN (me == 0 -> OWN : OTHERS)
#define ENDED 255

/* What is shared. */
byte tail;
byte head;
bit asleep;
byte waiting;
byte entries[CAPACITY];

/* The kernel's. */
byte bell;           /* the eventfd */
bool daemon_sleeps;  /* in poll() */
bool queued[THREADS];    /* in FUTEX_WAIT */
bool signalled[THREADS]; /* ... and left it for a signal */

/* The client's own. */
bool locked;
byte sleepers;
byte chained;

/* The property's. */
byte takes;
byte chains;
byte returned;

/* ---- The client ---------------------------------------------------------------------- */

/* ring_publish() */
inline publish()
{
#ifdef CLIENT_PUBLISHES_LAST
    atomic { is_asleep = asleep };
    atomic { tail = last };
#else
    atomic { tail = last };
    atomic { is_asleep = asleep };
#endif
    if
    :: is_asleep -> atomic { is_asleep = asleep; asleep = 0 }
    :: else
    fi
}

inline ring_bell()
{
    atomic {
#ifndef BELL_IS_FORGOTTEN
        bell++;
#endif
        daemon_sleeps = false;
        is_asleep = false
    }
}

inline wake_all()
{
    d_step {
#ifdef CHAINS_PER_TAKE
        chains++;
        assert(chains <= CHAINS_PER_TAKE * takes);
#endif
        i = 0;
        do
        :: i < THREADS -> queued[i] = false; i++
        :: else -> break
        od;
        i = 0
    }
}

inline wake_others()
{
#if defined(NO_CHAIN)
    chain = false;
#elif defined(CHAIN_IF_SERVED)
    chain = (head != seen);
#elif defined(CHAIN_ALWAYS)
    chain = true;
#else
    taken = waiting / 2;
    atomic { chain = (chained != taken); chained = taken; taken = 0 };
#endif
    if
    :: !chain
    :: else ->
        atomic { chain = (sleepers > 1) };
        if
        :: chain -> wake_all(); chain = false
        :: else
        fi
    fi
}

inline say_that_i_wait()
{
    atomic { waiting = waiting | 1; word = waiting }
}

#ifdef HEAD_IS_FUTEX
#define MAY_SLEEP (head == seen)
#else
#define MAY_SLEEP (waiting == word)
#endif

/* ring_wait() */
inline wait_for_change()
{
    sleepers++;
#ifdef CLIENT_LOOKS_FIRST
    changed = (head != seen);
    say_that_i_wait();
#else
    say_that_i_wait();
    changed = (head != seen);
#endif
    if
    :: changed
    :: else ->
        /* FUTEX_WAIT compares and queues at once, as FUTEX_WAKE sees it. */
        atomic { queued[me] = MAY_SLEEP; changed = !queued[me] };
        if
        :: changed
        :: else ->
            atomic { !queued[me]; changed = signalled[me]; signalled[me] = false };
            if
            :: changed
            :: else -> wake_others()
            fi
        fi
    fi;
    atomic { sleepers--; word = 0; changed = false }
}

inline wait_until_done(number)
{
    do
    :: seen = head;
        if
        :: seen > number -> break
        :: else -> wait_for_change()
        fi
    od;
    seen = 0
}

active [THREADS] proctype client_thread()
{
    byte me = _pid;
    byte put;
    byte last; /* 1 + its last entry */
    byte seen;
    byte word;
    byte taken;
    byte i;
    bool changed;
    bool is_asleep;
    bool chain;

    do
    :: put == MY_OWN -> break
    :: else ->
        atomic { !locked -> locked = true };
        atomic {
            seen = head;
            changed = (tail - seen == CAPACITY);
            if
            :: changed -> changed = false; locked = false
            :: else -> entries[tail % CAPACITY] = tail; seen = 0; put++; last = tail + 1; changed = true
            fi
        };
        if
        :: !changed -> wait_for_change(); seen = 0
        :: else ->
            changed = false;
            publish();
            locked = false;
            if
            :: is_asleep -> ring_bell()
            :: else
            fi;
            if
            :: put < MY_OWN -> wait_until_done(last - 1)
            :: true /* it may as well go on */
            fi
        fi
    od;
    wait_until_done(last - 1);
    last = 0;
    wait_until_done(ENDED - 1); /* that is, until head is ENDED */
    returned++
}

/* ---- The daemon ---------------------------------------------------------------------- */

inline wake_one()
{
    atomic {
        if
        :: queued[0] -> queued[0] = false
#if THREADS > 1
        :: queued[1] -> queued[1] = false
#endif
#if THREADS > 2
        :: queued[2] -> queued[2] = false
#endif
        :: else
        fi
    }
}

/* ring_complete(), and ring_wake() if it is due */
inline complete(number)
{
#ifdef DAEMON_PUBLISHES_LAST
    somebody_waits = waiting & 1;
    head = number;
#else
    head = number;
    somebody_waits = waiting & 1;
#endif
    if
    :: somebody_waits ->
        atomic {
#if defined(HEAD_IS_FUTEX) || defined(WORD_IS_FLAG)
            waiting = 0;
#else
            waiting++;
#endif
#ifdef CHAINS_PER_TAKE
            takes++;
#endif
            somebody_waits = false
        };
        wake_one()
    :: else
    fi
}

active proctype daemon()
{
    byte done;
    byte to;
    bool somebody_waits;

    do
    :: done == TOTAL -> break
    :: else ->
        atomic {
            to = tail;
            assert(to >= done && to - done <= CAPACITY);
            if
            :: to > done -> to = done + 1 /* one by one, or all at once */
            :: true
            fi;
            do
            :: done < to -> assert(entries[done % CAPACITY] == done); done++; somebody_waits = true
            :: else -> break
            od;
            to = 0
        };
        if
        :: somebody_waits -> /* there was something */
            somebody_waits = false;
            complete(done)
        :: else ->
#ifdef DAEMON_LOOKS_FIRST
            atomic { to = tail };
            asleep = 1;
#else
            asleep = 1;
            atomic { to = tail };
#endif
            if
            :: to == done ->
                atomic { daemon_sleeps = (bell == 0) };
                atomic { !daemon_sleeps; bell = 0 };
            :: else
            fi;
            atomic { asleep = 0; to = 0 } /* whatever it was that woke it */
        fi
    od;
    complete(ENDED)
}

/* ---- Signals, and other descriptors -------------------------------------------------- */

#if SIGNALS
active proctype somebody_else()
{
    byte left = SIGNALS;

    do
    :: left == 0 -> break
    :: else ->
        atomic {
            left--;
            if
            :: queued[0] -> queued[0] = false; signalled[0] = true
#if THREADS > 1
            :: queued[1] -> queued[1] = false; signalled[1] = true
#endif
            :: daemon_sleeps -> daemon_sleeps = false
            :: true
            fi
        }
    od
}
#endif

/* ---- Properties ---------------------------------------------------------------------- */

ltl all_return { <> (returned == THREADS) }

#define SERVED(n) []((tail == n) -> <> (head >= n))
#if OWN + (THREADS - 1) * OTHERS == 4
ltl all_done { SERVED(1) && SERVED(2) && SERVED(3) && SERVED(4) }
#elif OWN + (THREADS - 1) * OTHERS == 3
ltl all_done { SERVED(1) && SERVED(2) && SERVED(3) }
#else
ltl all_done { SERVED(1) && SERVED(2) }
#endif
