//! What every transport must do, as facts over `T: Transport`. One line puts a transport under all of them.
#![forbid(unsafe_code)]

#[path = "../support/certificates.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod certificates;
mod closing;
mod frames;
mod framing;
mod halves;
mod lab;
mod lending;
mod listening;

conformance!(tcp, freight::transport::tcp::Tcp, crate::lab::tcp);
conformance!(tls, crate::lab::tls_transport(), crate::lab::tls);
conformance!(
    #[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
    rdma,
    freight::transport::rdma::Rdma::default(),
    crate::lab::rdma
);
conformance!(shm, freight::transport::shm::Shm, crate::lab::shm);
conformance!(sim, freight::transport::sim::Sim, crate::lab::calm_sim);
conformance!(sim_in_pieces, freight::transport::sim::Sim, crate::lab::sim_in_pieces);

/// One test a fact: a transport, and a function that makes a lab for it.
#[macro_export]
macro_rules! conformance {
    ($(#[$attribute:meta])* $name:ident, $transport:expr, $lab:expr) => {
        mod $name {
            $crate::conformance! { @each [$(#[$attribute])*] $transport, $lab;
                closing::a_close_between_frames_is_the_end,
                closing::a_close_inside_a_frame_is_cut_short,
                closing::a_close_inside_a_header_is_cut_short,
                closing::a_frame_that_nobody_takes_is_given_up,
                closing::a_frame_that_stalls_ends_and_silence_between_frames_does_not,
                closing::a_dropped_peer_is_seen_by_both_halves,
                closing::a_peer_dropped_in_the_middle_of_a_frame_is_seen,
                closing::last_words_reach_a_peer_that_is_still_sending,
                closing::the_other_direction_outlives_a_close,
                closing::the_other_direction_outlives_a_dropped_sender,
                frames::a_dropped_receive_loses_nothing,
                frames::frames_of_every_size_arrive_whole_and_in_order,
                frames::frames_sent_together_arrive_in_order,
                frames::frames_taken_as_soon_as_they_are_here_arrive_in_order,
                frames::many_frames_in_flight_arrive_in_order,
                frames::the_longest_frame_arrives,
                framing::a_frame_past_the_limit_is_refused_by_its_header,
                framing::another_version_is_refused_by_its_fifth_byte,
                framing::lengths_shorter_than_a_header_are_refused,
                framing::something_else_is_refused_by_its_first_byte,
                framing::the_limit_can_be_raised_between_frames,
                framing::what_came_before_garbage_still_arrives,
                halves::both_directions_at_once_do_not_wait_for_each_other,
                halves::halves_work_on_tasks_of_their_own,
                lending::a_frame_that_the_budget_cannot_hold_is_refused,
                lending::an_untrusted_peer_is_lent_memory_as_its_bytes_arrive,
                lending::buffers_are_lent_again_and_credited_back,
                lending::no_budget_no_connection,
                listening::a_dropped_accept_loses_no_connection,
                listening::a_listener_outlives_bad_peers,
                listening::an_abandoned_connect_harms_nobody,
                listening::asking_for_the_processor_loses_nothing,
                listening::nobody_listening_is_a_typed_refusal,
                listening::one_endpoint_has_one_listener,
                listening::the_endpoint_is_the_real_one,
            }
        }
    };
    (@each $attributes:tt $transport:expr, $lab:expr; $($file:ident::$fact:ident,)*) => {
        $($crate::conformance! { @one $attributes $transport, $lab; $file::$fact })*
    };
    (@one [$(#[$attribute:meta])*] $transport:expr, $lab:expr; $file:ident::$fact:ident) => {
            #[test]
            $(#[$attribute])*
            fn $fact() {
                $crate::lab::run($transport, $lab, $crate::$file::$fact);
            }
    };
}
