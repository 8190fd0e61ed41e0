//! The moments in which another program can change a directory or a file
//! between two looks of the tail. In tests something happens there; in the
//! program nothing does.

/// Such a moment.
#[cfg(not(test))]
#[inline]
pub(super) fn moment() {}

#[cfg(test)]
pub(super) use tests::moment;

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;

    thread_local! {
        static MEANWHILE: RefCell<Option<Meanwhile>> = const { RefCell::new(None) };
    }

    struct Meanwhile {
        /// How many moments pass before.
        left: usize,
        happens: Box<dyn FnOnce()>,
    }

    /// In this thread this happens in the `n`-th moment from now on.
    pub(in super::super) fn in_moment(n: usize, happens: impl FnOnce() + 'static) {
        let happens = Box::new(happens);
        MEANWHILE.with(|meanwhile| meanwhile.replace(Some(Meanwhile { left: n, happens })));
    }

    /// If that moment has not come, it happens now. Answers whether the moment came.
    pub(in super::super) fn at_last() -> bool {
        let left = MEANWHILE.with(RefCell::take);
        let came = left.is_none();
        left.into_iter().for_each(|meanwhile| (meanwhile.happens)());
        came
    }

    pub(in super::super) fn moment() {
        let happens = MEANWHILE.with_borrow_mut(|meanwhile| match meanwhile {
            Some(Meanwhile { left: 0, .. }) => meanwhile.take().map(|now| now.happens),
            Some(Meanwhile { left, .. }) => {
                *left -= 1;
                None
            }
            None => None,
        });
        happens.into_iter().for_each(|happens| happens());
    }
}
