//! Which NOTIFYs of one connection are in flight, found by stream-id in constant time.

/// The largest stream-id; HAProxy 3.1 and later stop there too. Odd.
const LAST_ID: u32 = (1 << 31) - 1;

/// When a NOTIFY in flight was due and written, in nanoseconds of the run's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flight {
    pub(crate) intended_ns: u64,
    pub(crate) sent_ns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The last stream-id that used this slot; 0 if none did.
    id: u32,
    open: bool,
    flight: Flight,
}

/// Why an ACK matches nothing in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmatched {
    /// The id was never sent on this connection.
    Unknown,
    /// The id was answered before.
    Duplicate,
}

/// A ring of slots. Ids are given out as HAProxy 3.1 and later do: odd, rising, from 1 on each
/// connection, with frame-id 1.
#[derive(Debug)]
pub(crate) struct Slots {
    table: Box<[Slot]>,
    mask: u32,
    next_id: u32,
    in_flight: usize,
}

impl Slots {
    /// Room for `limit` NOTIFYs in flight.
    pub(crate) fn new(limit: usize) -> Self {
        // Twice the bound: a NOTIFY whose ACK comes late holds its slot while others go round.
        let len = (limit * 2).next_power_of_two();
        let mask = u32::try_from(len - 1).expect("Plan::check bounds what is in flight");
        Self {
            table: vec![Slot::default(); len].into_boxed_slice(),
            mask,
            next_id: 1,
            in_flight: 0,
        }
    }

    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    #[inline]
    fn index(&self, id: u32) -> usize {
        ((id >> 1) & self.mask) as usize
    }

    /// Takes the next free id. One whose slot is still held by a late NOTIFY is left out.
    #[inline]
    pub(crate) fn open(&mut self, flight: Flight) -> u32 {
        assert!(
            self.in_flight < self.table.len(),
            "a session never exceeds the bound its slots were made for"
        );
        loop {
            let id = self.next_id;
            self.next_id = if id == LAST_ID { 1 } else { id + 2 };
            let index = self.index(id);
            let slot = &mut self.table[index];
            if !slot.open {
                *slot = Slot {
                    id,
                    open: true,
                    flight,
                };
                self.in_flight += 1;
                return id;
            }
        }
    }

    /// Takes the NOTIFY these ids answer.
    #[inline]
    pub(crate) fn close(&mut self, stream_id: u64, frame_id: u64) -> Result<Flight, Unmatched> {
        let id = match u32::try_from(stream_id) {
            Ok(id) if id & 1 == 1 && frame_id == 1 => id,
            _ => return Err(Unmatched::Unknown),
        };
        let index = self.index(id);
        let slot = &mut self.table[index];
        if slot.id == id && slot.open {
            slot.open = false;
            self.in_flight -= 1;
            return Ok(slot.flight);
        }
        // An id below the next one was sent before, and its slot has gone to a later one since.
        Err(if slot.id == id || id < self.next_id {
            Unmatched::Duplicate
        } else {
            Unmatched::Unknown
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Flight {
        Flight {
            intended_ns: ns,
            sent_ns: ns,
        }
    }

    #[test]
    fn ids_are_odd_and_rise() {
        let mut slots = Slots::new(3);
        assert_eq!([1, 2, 3].map(|ns| slots.open(at(ns))), [1, 3, 5]);
        assert_eq!(slots.in_flight(), 3);
        assert_eq!(slots.close(3, 1), Ok(at(2)));
        assert_eq!(slots.in_flight(), 2);
    }

    #[test]
    fn second_and_unknown_acks_are_told_apart() {
        let mut slots = Slots::new(2);
        slots.open(at(1));
        assert_eq!(slots.close(1, 1), Ok(at(1)));
        assert_eq!(slots.close(1, 1), Err(Unmatched::Duplicate));
        for (stream_id, frame_id) in [(3, 1), (0, 1), (2, 1), (1, 2), (1, 0), (1 << 32 | 1, 1)] {
            assert_eq!(
                slots.close(stream_id, frame_id),
                Err(Unmatched::Unknown),
                "{stream_id}/{frame_id}"
            );
        }
        // The slot of 1 goes to 9 (four slots); 1 is a duplicate still.
        for _ in 0..4 {
            let id = slots.open(at(2));
            slots.close(u64::from(id), 1).unwrap();
        }
        assert_eq!(slots.close(1, 1), Err(Unmatched::Duplicate));
        assert_eq!(slots.in_flight(), 0);
    }

    #[test]
    fn a_late_ack_keeps_its_slot_while_others_go_round() {
        let mut slots = Slots::new(2);
        let late = slots.open(at(7));
        for _ in 0..1000 {
            let id = slots.open(at(1));
            assert_ne!(id, late);
            assert_eq!(slots.close(u64::from(id), 1), Ok(at(1)));
        }
        assert_eq!(slots.close(u64::from(late), 1), Ok(at(7)));
    }

    #[test]
    fn ids_wrap_round_after_the_last() {
        let mut slots = Slots::new(2);
        slots.next_id = LAST_ID;
        assert_eq!(slots.open(at(1)), LAST_ID);
        assert_eq!(slots.open(at(2)), 1);
        assert_eq!(slots.close(u64::from(LAST_ID), 1), Ok(at(1)));
        assert_eq!(slots.close(1, 1), Ok(at(2)));
    }
}
