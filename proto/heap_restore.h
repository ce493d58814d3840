/* SPDX-License-Identifier: MIT */
/*
 * A heap whose units outlived the process that changed them last, which may have been killed
 * between any two stores. First what it had begun is undone, then the rest of the heap is
 * built again from the units' truth: the bitmaps and is_leased.
 *
 * Units and arguments are untrusted: whatever they hold, nothing else is touched, and what
 * heap_restore() lets pass is a heap like one that grew up here.
 *
 * - To undo a change that was not begun, or was undone before, changes nothing. Which of its
 *   stores were done, and in which order, makes no difference.
 * - `stale` may be left with more bits than there were: they cost a client a flush, no more.
 * - A change may have grown or trimmed the arena too. heap_restore() must be told that it has
 *   memory for all that is undone here; what lies beyond is forgotten.
 */
#ifndef PROTO_HEAP_RESTORE_H
#define PROTO_HEAP_RESTORE_H

#include "proto/heap.h"

/*
 * Before heap_restore(). False: there can't be such a span, or block; nothing was changed.
 * heap_take() or heap_carve() of the span was not begun:
 */
bool heap_undo_take(struct heap *heap, uint64_t offset, uint64_t bytes);
/* heap_cut() of the span, which was so long, or heap_seal() was not begun: */
bool heap_undo_cut(struct heap *heap, uint64_t offset, uint64_t bytes, bool sealed);
/* heap_lease() or heap_return() in the block that `offset` lies in was not begun: */
bool heap_undo_lease(struct heap *heap, uint64_t offset);
bool heap_undo_return(struct heap *heap, uint64_t offset);
/* heap_clear() of a heap with that much memory is done. All of it then counts as stale. */
bool heap_redo_clear(struct heap *heap, uint64_t grown_bytes);

/*
 * `heap` is as heap_init() made it over these units, and the arena has memory up to
 * `grown_bytes`. NULL, or what is wrong with the units: then the heap is fit for heap_deinit() only.
 */
const char *heap_restore(struct heap *heap, uint64_t grown_bytes);

#endif
