//! Slots with generations: values are named by small typed ids, and an id of a value that is gone finds nothing.

use std::collections::VecDeque;

/// A typed name of a slot in an [`Arena`]: 16 bits of slot and 16 of generation.
pub trait Handle: Copy + Eq {
    /// The handle with these 32 bits, the slot in the low half.
    fn from_bits(bits: u32) -> Self;
    /// The 32 bits.
    fn bits(self) -> u32;
    /// Which slot.
    fn slot(self) -> u16 {
        self.bits() as u16
    }
}

/// Defines a [`Handle`] type that prints as its letter, slot and generation (`p17.3`).
#[macro_export]
macro_rules! handle {
    ($(#[$doc:meta])* $vis:vis $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis struct $name(u32);
        impl $crate::base::arena::Handle for $name {
            fn from_bits(bits: u32) -> $name {
                $name(bits)
            }
            fn bits(self) -> u32 {
                self.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($letter, "{}.{}"), self.0 & 0xffff, self.0 >> 16)
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

struct Slot<T> {
    generation: u16,
    /// Jobs that other threads hold under this slot's id; the slot is not used again before they are back.
    pins: u32,
    value: Option<T>,
}

/// A bounded collection of `T`, each named by an `Id`. Free slots are used again first in, first out.
pub struct Arena<Id, T> {
    slots: Vec<Slot<T>>,
    free: VecDeque<u16>,
    len: usize,
    max: usize,
    id: std::marker::PhantomData<Id>,
}

impl<Id: Handle, T> Arena<Id, T> {
    /// An arena for up to `max` values at a time (65,535 at most: slot 0xFFFF is never given out).
    pub fn new(max: usize) -> Arena<Id, T> {
        let max = max.min(usize::from(u16::MAX));
        Arena { slots: Vec::new(), free: VecDeque::new(), len: 0, max, id: std::marker::PhantomData }
    }

    /// Puts a value in; None when all slots are taken (by values, or by jobs of values that are gone).
    pub fn insert(&mut self, value: T) -> Option<Id> {
        // A fresh slot only when none is free: what there is at a time bounds the memory, not what ever was.
        let at = match self.free.pop_front() {
            Some(at) => usize::from(at),
            None if self.slots.len() < self.max => {
                self.slots.push(Slot { generation: 0, pins: 0, value: None });
                self.slots.len() - 1
            }
            None => return None,
        };
        self.slots[at].value = Some(value);
        self.len += 1;
        Some(Self::id(at, self.slots[at].generation))
    }

    fn id(at: usize, generation: u16) -> Id {
        Id::from_bits(u32::from(generation) << 16 | at as u32)
    }

    fn find(&self, id: Id) -> Option<usize> {
        let at = usize::from(id.slot());
        let slot = self.slots.get(at)?;
        (u32::from(slot.generation) == id.bits() >> 16).then_some(at)
    }

    /// The value of that name, if it is still there.
    pub fn get(&self, id: Id) -> Option<&T> {
        self.slots[self.find(id)?].value.as_ref()
    }

    /// The value of that name, to change.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let at = self.find(id)?;
        self.slots[at].value.as_mut()
    }

    /// Whether the value of that name is still there.
    pub fn contains(&self, id: Id) -> bool {
        self.get(id).is_some()
    }

    /// Takes the value out; its name finds nothing from now on.
    pub fn remove(&mut self, id: Id) -> Option<T> {
        let at = self.find(id)?;
        let slot = &mut self.slots[at];
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.len -= 1;
        if slot.pins == 0 {
            self.free.push_back(at as u16);
        }
        Some(value)
    }

    /// A job of this value went out to another thread: its slot stays unused until [`Arena::unpin`].
    pub fn pin(&mut self, id: Id) {
        if let Some(at) = self.find(id) {
            self.slots[at].pins += 1;
        }
    }

    /// A job came back; `id` may name a value that is gone.
    pub fn unpin(&mut self, id: Id) {
        let Some(slot) = self.slots.get_mut(usize::from(id.slot())) else { return };
        debug_assert!(slot.pins > 0, "unpinned more often than pinned");
        slot.pins = slot.pins.saturating_sub(1);
        if slot.pins == 0 && slot.value.is_none() {
            self.free.push_back(id.slot());
        }
    }

    /// How many values are in.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is in.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The names of all values, in the order of their slots.
    pub fn ids(&self) -> impl Iterator<Item = Id> + '_ {
        self.iter().map(|(id, _)| id)
    }

    /// All values with their names, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        let named = |(at, slot): (usize, &'_ Slot<T>)| Self::id(at, slot.generation);
        self.slots.iter().enumerate().filter_map(move |(at, s)| Some((named((at, s)), s.value.as_ref()?)))
    }

    /// All values with their names, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Id, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(at, s)| {
            let id = Self::id(at, s.generation);
            Some((id, s.value.as_mut()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    handle!(
        /// A name for the tests.
        TestId,
        "x"
    );

    #[test]
    fn a_stale_name_finds_nothing() {
        let mut arena: Arena<TestId, &str> = Arena::new(1);
        let a = arena.insert("a").unwrap();
        assert!(arena.insert("b").is_none());
        assert_eq!(arena.remove(a), Some("a"));
        let b = arena.insert("b").unwrap();
        assert_eq!((a.slot(), b.slot()), (0, 0));
        assert_ne!(a, b);
        assert_eq!((arena.get(a), arena.get(b)), (None, Some(&"b")));
        assert_eq!(arena.remove(a), None);
        assert_eq!(format!("{a} {b:?}"), "x0.0 x0.1");
    }

    #[test]
    fn a_slot_with_a_job_out_is_not_used_again() {
        let mut arena: Arena<TestId, u8> = Arena::new(1);
        let a = arena.insert(1).unwrap();
        arena.pin(a);
        arena.pin(a);
        arena.remove(a);
        arena.unpin(a);
        assert!(arena.insert(2).is_none());
        arena.unpin(a);
        assert!(arena.insert(2).is_some());
    }

    #[test]
    fn memory_is_bounded_by_what_is_in_at_a_time() {
        let mut arena: Arena<TestId, u8> = Arena::new(1000);
        for n in 0..100 {
            let id = arena.insert(n).unwrap();
            arena.remove(id);
        }
        assert_eq!(arena.slots.len(), 1);
    }

    #[test]
    fn free_slots_are_used_first_in_first_out() {
        let mut arena: Arena<TestId, u8> = Arena::new(3);
        let ids: Vec<TestId> = (0..3).map(|n| arena.insert(n).unwrap()).collect();
        arena.remove(ids[1]);
        arena.remove(ids[0]);
        assert_eq!(arena.insert(9).unwrap().slot(), 1);
        assert_eq!(arena.insert(9).unwrap().slot(), 0);
        assert_eq!(arena.iter().map(|(id, _)| id.slot()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(arena.len(), 3);
    }
}
