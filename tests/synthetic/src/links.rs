//! The kernel's lists, with its order of stores (include/linux/list.h, rculist.h, rculist_nulls.h).
//!
//! A `list_head` is two pointers: next, previous. An `hlist_node` is a pointer to the next node and
//! the address of the pointer to this node.

use panoptes_decoders::address::KernelVa;

use crate::memory::Memory;

/// `LIST_POISON1` (include/linux/poison.h): the forward pointer of an entry that has left its list,
/// if nobody may be on the way there.
const LIST_POISON1: u64 = 0xdead_0000_0000_0100;
/// `LIST_POISON2` (include/linux/poison.h): the backward pointer of an entry that has left its
/// list.
const LIST_POISON2: u64 = 0xdead_0000_0000_0122;

impl Memory {
    fn next(&self, at: KernelVa) -> KernelVa {
        KernelVa(self.word(at))
    }

    fn previous(&self, at: KernelVa) -> KernelVa {
        KernelVa(self.word(at.plus(8)))
    }

    /// `INIT_LIST_HEAD`
    pub(crate) fn list_init(&mut self, at: KernelVa) {
        self.put_word(at, at.0);
        self.put_word(at.plus(8), at.0);
    }

    /// `list_add_rcu`: the entry is complete before the list leads to it.
    pub(crate) fn list_add(&mut self, entry: KernelVa, head: KernelVa) {
        let first = self.next(head);
        self.put_word(entry, first.0);
        self.put_word(entry.plus(8), head.0);
        self.put_word(head, entry.0);
        self.put_word(first.plus(8), entry.0);
    }

    /// `list_add_tail_rcu`: the entry is complete before the list leads to it.
    pub(crate) fn list_add_tail(&mut self, entry: KernelVa, head: KernelVa) {
        let last = self.previous(head);
        self.put_word(entry, head.0);
        self.put_word(entry.plus(8), last.0);
        self.put_word(last, entry.0);
        self.put_word(head.plus(8), entry.0);
    }

    /// `__list_del`
    fn list_unlink(&mut self, entry: KernelVa) {
        let (next, previous) = (self.next(entry), self.previous(entry));
        self.put_word(next.plus(8), previous.0);
        self.put_word(previous, next.0);
    }

    /// `list_del_rcu`: the entry still leads to the next one.
    pub(crate) fn list_del(&mut self, entry: KernelVa) {
        self.list_unlink(entry);
        self.put_word(entry.plus(8), LIST_POISON2);
    }

    /// `list_del`: the entry leads nowhere.
    pub(crate) fn list_del_poison(&mut self, entry: KernelVa) {
        self.list_unlink(entry);
        self.put_word(entry, LIST_POISON1);
        self.put_word(entry.plus(8), LIST_POISON2);
    }

    /// `list_del_init`: the entry leads to itself.
    pub(crate) fn list_del_init(&mut self, entry: KernelVa) {
        self.list_unlink(entry);
        self.list_init(entry);
    }

    /// `list_splice_tail_init`: moves all entries to the end of another list.
    pub(crate) fn list_splice_tail(&mut self, from: KernelVa, to: KernelVa) {
        let (first, last) = (self.next(from), self.previous(from));
        if first == from {
            return;
        }
        let end = self.previous(to);
        self.put_word(first.plus(8), end.0);
        self.put_word(end, first.0);
        self.put_word(last, to.0);
        self.put_word(to.plus(8), last.0);
        self.list_init(from);
    }

    /// `hlist_add_head_rcu`, and `hlist_nulls_add_head_rcu`: the lowest bit of a pointer marks the
    /// end of such a list.
    pub(crate) fn hlist_add_head(&mut self, node: KernelVa, head: KernelVa) {
        let first = self.next(head);
        self.put_word(node, first.0);
        self.put_word(node.plus(8), head.0);
        self.put_word(head, node.0);
        if is_node(first) {
            self.put_word(first.plus(8), node.0);
        }
    }

    /// `hlist_del_rcu`: the node still leads to the next one.
    pub(crate) fn hlist_del(&mut self, node: KernelVa) {
        let (next, place) = (self.next(node), self.previous(node));
        self.put_word(place, next.0);
        if is_node(next) {
            self.put_word(next.plus(8), place.0);
        }
        self.put_word(node.plus(8), LIST_POISON2);
    }
}

fn is_node(pointer: KernelVa) -> bool {
    !pointer.is_null() && pointer.0 & 1 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(memory: &Memory, head: KernelVa) -> Vec<KernelVa> {
        let mut found = Vec::new();
        let mut at = memory.next(head);
        while at != head {
            assert_eq!(memory.next(memory.previous(at)), at);
            found.push(at);
            at = memory.next(at);
        }
        found
    }

    #[test]
    fn lists_close_after_each_change() {
        let mut memory = Memory::new(64 << 20, 0xffff_ffff_8100_0000..0xffff_ffff_8200_0000);
        let [head, other, a, b, c] = [(); 5].map(|()| memory.allocate(16));
        memory.list_init(head);
        memory.list_init(other);
        for entry in [a, b, c] {
            memory.list_add_tail(entry, head);
        }
        memory.list_del(b);
        assert_eq!(memory.next(b), c);
        assert_eq!(entries(&memory, head), [a, c]);
        memory.list_add_tail(b, other);
        memory.list_splice_tail(head, other);
        assert_eq!(entries(&memory, head), []);
        assert_eq!(entries(&memory, other), [b, a, c]);
    }

    #[test]
    fn a_node_leaves_its_hash_chain() {
        let mut memory = Memory::new(64 << 20, 0xffff_ffff_8100_0000..0xffff_ffff_8200_0000);
        let [head, a, b] = [(); 3].map(|()| memory.allocate(16));
        memory.put_word(head, 5); // the end of a list of sockets
        memory.hlist_add_head(a, head);
        memory.hlist_add_head(b, head);
        assert_eq!((memory.next(head), memory.next(b), memory.word(a)), (b, a, 5));
        memory.hlist_del(a);
        assert_eq!((memory.next(head), memory.word(b)), (b, 5));
        memory.hlist_del(b);
        assert_eq!(memory.word(head), 5);
    }
}
