//! Who gets one answer: a task of this node, or whoever it is passed on to (a peer whose question it was).

use tokio::sync::oneshot;

use super::group::GroupError;

type Answer<T> = Result<T, GroupError>;

/// Gets one answer, and always one.
pub enum Waiter<T> {
    /// A task that awaits it. If this is dropped, it knows what that means.
    Task(oneshot::Sender<Answer<T>>),
    PassedOn(PassedOn<T>),
}

/// Is called where the answer comes to be: no task has to wait for it.
pub struct PassedOn<T> {
    then: Option<Box<dyn FnOnce(Answer<T>) + Send>>,
    /// The answer if there never is another.
    dropped: Option<GroupError>,
}

impl<T> Waiter<T> {
    /// Passes the answer on to `then`, which must not wait for anything; or `dropped`, should there be none.
    pub fn pass_on(then: impl FnOnce(Answer<T>) + Send + 'static, dropped: GroupError) -> Waiter<T> {
        Waiter::PassedOn(PassedOn {
            then: Some(Box::new(then)),
            dropped: Some(dropped),
        })
    }

    /// Nobody waits for the answer.
    #[must_use]
    pub fn nobody() -> Waiter<T> {
        Waiter::PassedOn(PassedOn {
            then: None,
            dropped: None,
        })
    }

    pub fn send(self, answer: Answer<T>) {
        match self {
            // A caller that has timed out does not listen any more; that is its affair.
            Waiter::Task(task) => drop(task.send(answer)),
            Waiter::PassedOn(mut passed_on) => passed_on.send(answer),
        }
    }

    /// Whether nobody waits any more.
    pub fn is_closed(&self) -> bool {
        match self {
            Waiter::Task(task) => task.is_closed(),
            Waiter::PassedOn(_) => false,
        }
    }
}

impl<T> PassedOn<T> {
    fn send(&mut self, answer: Answer<T>) {
        if let Some(then) = self.then.take() {
            then(answer);
        }
    }
}

impl<T> Drop for PassedOn<T> {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped.take() {
            self.send(Err(dropped));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    type Answers = Arc<Mutex<Vec<Answer<u32>>>>;

    fn waiter() -> (Waiter<u32>, Answers) {
        let answers = Answers::default();
        let to = Arc::clone(&answers);
        let waiter = Waiter::pass_on(move |answer| to.lock().push(answer), GroupError::Busy);
        (waiter, answers)
    }

    #[test]
    fn there_is_always_one_answer() {
        let (sent, answers) = waiter();
        sent.send(Ok(1));
        assert_eq!(*answers.lock(), [Ok(1)]);
        let (dropped, answers) = waiter();
        drop(dropped);
        assert_eq!(*answers.lock(), [Err(GroupError::Busy)]);
    }
}
