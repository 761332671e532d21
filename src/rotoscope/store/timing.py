"""Every wait and every number of tries of the job engine, in one record that a test may shorten."""

from dataclasses import dataclass

from rotoscope.providers.runner import MAX_RESULT_AGE

__all__ = ["REDELIVERY_SECONDS", "Intervals"]

REDELIVERY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds, where nothing else is written.

    Attributes:
        lease: how long a job belongs to a process that says nothing more.
        heartbeat: how often a process says that it lives; a third of the lease.
        poll: how often an idle process looks for jobs that no process drives.
        change_poll: how often a process with jobs, or with waiting calls, looks whether another one has written.
        announced_poll: the same where the database announces what is written: only a net, for what did not arrive.
        starter_preference: how long a new job is left to the process that opened it.
        post_grace: added to the longest paying request before its silence is taken for an answer that was lost.
        list_pauses: the waits between looks into a provider's list for a prediction whose reply was lost.
        key_refusal_pause: between two questions while a provider does not accept the key.
        longest_retry_pause: the longest wait before a request that was certainly not accepted is sent again.
        list_walk: between two walks through a provider's list, where many runs are looked for in it; at least.
        longest_pause: the longest wait that is ever written to the ledger; one that ends later is over.
        default_result_life: how long a result is looked for where its provider does not say how long it keeps one.
        quote_life: how long a price that was shown may be agreed to.
        redelivery: how long after an end was delivered an equal request gets it once more: a client that gave
            up in silence looks like one that was answered.
        storage_pauses: between tries to write what may have been paid for.
        prediction_id_pauses: more such pauses for what nothing else can tell: the id of a run, or its only copy.
        longest_storage_pause: the longest wait for a ledger or a disk that takes nothing, once the run is paid for.
        max_submit_attempts: how often a request is sent that was certainly not accepted; a number.
        first_submit_pause: half of the first wait before such a request is sent again; each wait doubles.
        longest_submit_pause: the longest such wait where the provider names none.
        in_flight_look_pause: between looks into the provider's list for a run to cancel whose reply is still out.
        late_list_pauses: the waits before the looks that are left when `list_pauses` has passed.
        max_stage_retries: after how many faults of ours in a row a run that is paid for waits for a review; a number.
        longest_stage_pause: the longest wait before a stage is run again after such a fault.
        watch_note: how often the time for which a run was watched is written; more rarely where many are followed.
        overdue_check: for how long a run that is watched again after its deadline is asked about before it is stopped.
        longest_cancel_pause: the longest wait between two cancel requests while the provider accepts none.
        cancel_repeat: how long after a cancel request was accepted it is sent again, while the run goes on.
        longest_cancel_repeat: the longest such wait; each doubles.
        longest_fetch_pause: the longest wait between two tries to fetch a result.
        max_fetch: for how long files are fetched, all tries together, the waits between them not counted in.
        held_look: between two looks for files that are held on this machine until an object store takes them.
        held_wait: for how long a result is waited for that another host holds until the store takes it.
        review_pause: the shortest wait between two looks for a run that waits for a review.
        review_question_pause: in which a user's question for a job in review is not worth another look.
        longest_list_walk_pause: the longest wait after a walk through a list that failed.
        list_refusal_pause: the wait after the provider has refused its list to the key.
    """

    lease: float = 15.0
    heartbeat: float = 5.0
    poll: float = 1.0
    change_poll: float = 0.25
    announced_poll: float = 5.0
    starter_preference: float = 2.0
    post_grace: float = 5.0
    list_pauses: tuple[float, ...] = (0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 20.0)
    key_refusal_pause: float = 60.0
    longest_retry_pause: float = 60.0
    list_walk: float = 1.0
    longest_pause: float = 900.0
    default_result_life: float = MAX_RESULT_AGE
    quote_life: float = 600.0
    redelivery: float = REDELIVERY_SECONDS
    storage_pauses: tuple[float, ...] = (0.5, 1.0, 2.0, 5.0, 10.0)
    prediction_id_pauses: tuple[float, ...] = (10.0, 10.0, 10.0, 10.0)
    longest_storage_pause: float = 60.0
    max_submit_attempts: int = 5
    first_submit_pause: float = 1.0
    longest_submit_pause: float = 30.0
    in_flight_look_pause: float = 0.5
    late_list_pauses: tuple[float, ...] = (1.0, 3.0)
    max_stage_retries: int = 5
    longest_stage_pause: float = 300.0
    watch_note: float = 15.0
    overdue_check: float = 30.0
    longest_cancel_pause: float = 60.0
    cancel_repeat: float = 60.0
    longest_cancel_repeat: float = 300.0
    longest_fetch_pause: float = 300.0
    max_fetch: float = 3600.0
    held_look: float = 30.0
    held_wait: float = 7 * 86_400.0
    review_pause: float = 60.0
    review_question_pause: float = 5.0
    longest_list_walk_pause: float = 60.0
    list_refusal_pause: float = 600.0
