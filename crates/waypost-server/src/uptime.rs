//! How long the machine runs.

use std::time::Duration;

use waypost_net::server::Clock;

/// The clock of a server. Where the system can say so, it goes on while the machine sleeps: the mail of a
/// virtual machine that was put aside for a night is a night older when it goes on (O2).
#[cfg(target_os = "linux")]
pub(crate) fn clock() -> Clock {
    Clock::counting(since_boot)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn clock() -> Clock {
    Clock::start()
}

/// Since the machine was started, its sleep counted. Never goes back.
#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// `/proc/uptime` counts sleep too, in hundredths of a second.
    #[test]
    fn the_clock_counts_as_the_machine_does_o2() {
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").expect("it is there");
            let seconds: f64 = text.split(' ').next().expect("a number").parse().expect("a number");
            Duration::from_secs_f64(seconds)
        };
        let before = uptime();
        let counted = since_boot() + Duration::from_millis(10);
        assert!(before <= counted, "{before:?} {counted:?}");
        assert!(since_boot() <= uptime() + Duration::from_millis(10));
    }
}
