//! The calls and returns of known operations in time order, as a list from which operations are taken and put back in
//! O(1), the last taken first (Knuth's dancing links).

/// What stands at a place of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The operation with this number may come next, if no return stands before it.
    Call(usize),
    /// Everything after this return must wait until the operation with this number is in order.
    Return(usize),
    End,
}

/// Operation `n` has its call at place `2n`, its return at `2n + 1`; the list's head is the last place.
#[derive(Debug)]
pub(super) struct Timeline {
    next: Vec<usize>,
    previous: Vec<usize>,
    /// When each place happens.
    times: Vec<u64>,
}

impl Timeline {
    /// Of operations given as (invoked, returned). At equal times calls come first: equal means concurrent.
    pub(super) fn new(spans: &[(u64, u64)]) -> Timeline {
        let mut times: Vec<u64> = Vec::with_capacity(2 * spans.len() + 1);
        for (invoked, returned) in spans {
            assert!(invoked <= returned, "an operation returned before it was invoked");
            times.extend([*invoked, *returned]);
        }
        let mut order: Vec<usize> = (0..times.len()).collect();
        order.sort_by_key(|place| (times[*place], place % 2, *place));
        let head = times.len();
        times.push(u64::MAX);
        let mut timeline = Timeline {
            next: vec![head; head + 1],
            previous: vec![head; head + 1],
            times,
        };
        let mut last = head;
        for place in order {
            timeline.link(last, place);
            last = place;
        }
        timeline.link(last, head);
        timeline
    }

    fn link(&mut self, left: usize, right: usize) {
        self.next[left] = right;
        self.previous[right] = left;
    }

    /// The place before the first one.
    pub(super) fn head(&self) -> usize {
        self.next.len() - 1
    }

    /// The place after `place`, and what stands there.
    pub(super) fn after(&self, place: usize) -> (usize, Place) {
        let next = self.next[place];
        let what = match next {
            end if end == self.head() => Place::End,
            call if call % 2 == 0 => Place::Call(call / 2),
            back => Place::Return(back / 2),
        };
        (next, what)
    }

    /// The operations that may come next, in order of invocation.
    pub(super) fn candidates(&self) -> impl Iterator<Item = usize> + '_ {
        let mut place = self.head();
        std::iter::from_fn(move || {
            let (next, Place::Call(operation)) = self.after(place) else {
                return None;
            };
            place = next;
            Some(operation)
        })
    }

    /// The first return that waits; `u64::MAX` if there is none.
    pub(super) fn deadline(&self) -> u64 {
        let mut place = self.head();
        loop {
            let (next, what) = self.after(place);
            match what {
                Place::Call(_) => place = next,
                Place::Return(_) | Place::End => return self.times[next],
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next[self.head()] == self.head()
    }

    pub(super) fn take(&mut self, operation: usize) {
        for place in [2 * operation, 2 * operation + 1] {
            self.link_around(place);
        }
    }

    fn link_around(&mut self, place: usize) {
        let (left, right) = (self.previous[place], self.next[place]);
        self.link(left, right);
    }

    /// Undoes the last [`take`](Timeline::take) that is not undone, which must have been of `operation`.
    pub(super) fn put_back(&mut self, operation: usize) {
        for place in [2 * operation + 1, 2 * operation] {
            let (left, right) = (self.previous[place], self.next[place]);
            self.next[left] = place;
            self.previous[right] = place;
        }
    }
}
