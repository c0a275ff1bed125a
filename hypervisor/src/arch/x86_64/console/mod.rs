//! The console on the first serial port, and the log.
//!
//! Output is synchronous: a line that was logged is out. All CPUs share the port under one lock; a panic takes it by
//! force (see [`Emergency`]), so that no panic is silent because another CPU, or the same one, was printing.
//! On a machine without the port everything here does nothing.

mod logger;

use core::fmt;

use spin::mutex::{SpinMutex, SpinMutexGuard};
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{IER, LSR};
use uart_16550::{BaudRate, Config, Uart16550};

use super::apic;
use crate::machine::log_ring::{LOG_SIZE, LogRing};

pub use logger::{init, set_cpu_source, set_level};

/// I/O port of COM1.
pub const COM1: u16 = 0x3f8;
/// ISA interrupt of COM1.
const COM1_IRQ: u8 = 4;
/// How often a port that takes no bytes is asked again before it counts as dead. At 115200 baud a full FIFO empties
/// in 1.4 ms; one port read takes about 1 us on real machines.
const PATIENCE: u32 = 100_000;

static PORT: SpinMutex<Port> = SpinMutex::new(Port { uart: None, last: b'\n', log: LogRing::new() });

struct Port {
    uart: Option<Uart16550<PioBackend>>,
    /// The last byte that was printed.
    last: u8,
    /// What was logged, without what guests print.
    log: LogRing<{ LOG_SIZE as usize }>,
}

impl Port {
    /// Finds and sets up the port.
    fn open(&mut self) {
        // SAFETY: COM1 is at this port on every PC that has it, and this module alone uses it.
        let Ok(mut uart) = (unsafe { Uart16550::new_port(COM1) }) else { return };
        let config = Config { baud_rate: BaudRate::Baud115200, ..Config::DEFAULT };
        self.uart = uart.init(config).is_ok().then_some(uart);
    }

    /// Sends bytes; terminals need a carriage return before each line feed, so one is added where it is missing.
    fn write(&mut self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            match line {
                [text @ .., b'\n'] => {
                    self.send(text);
                    self.send(if self.last == b'\r' { b"\n" } else { b"\r\n" });
                }
                text => self.send(text),
            }
        }
    }

    fn fresh_line(&mut self) {
        if self.last != b'\n' {
            self.write(b"\n");
        }
    }

    fn send(&mut self, mut bytes: &[u8]) {
        let Some(&last) = bytes.last() else { return };
        self.last = last;
        let Some(uart) = &mut self.uart else { return };
        let mut patience = PATIENCE;
        while !bytes.is_empty() {
            let sent = uart.send_bytes(bytes);
            bytes = &bytes[sent..];
            if sent > 0 {
                patience = PATIENCE;
            } else if patience > 0 {
                patience -= 1;
                core::hint::spin_loop();
            } else {
                self.uart = None;
                return;
            }
        }
    }
}

/// The console, held for output that nothing else is to come between.
pub struct Output(SpinMutexGuard<'static, Port>);

/// Waits for the console. Nothing may be logged while it is held.
pub fn output() -> Output {
    Output(PORT.lock())
}

impl Output {
    /// Prints bytes as they are, but for line ends.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// Is the cursor at the start of a line?
    pub fn at_line_start(&self) -> bool {
        self.0.last == b'\n'
    }

    /// Ends the line, unless none was begun.
    pub fn fresh_line(&mut self) {
        self.0.fresh_line();
    }
}

/// [`LogRing::read`] of the log.
pub fn read_log(from: Option<u32>, into: &mut [u8]) -> (usize, u32) {
    PORT.lock().log.read(from, into)
}

/// [`LogRing::clear`] of the log.
pub fn clear_log(before: u32) {
    PORT.lock().log.clear(before);
}

/// Waits until all that was printed has left the machine. For its last moments: what the port still holds when the
/// power goes is lost.
pub fn flush() {
    // A holder that was stopped in the middle of a line may keep the lock for good.
    let Some(mut port) = PORT.try_lock() else { return };
    let Some(uart) = &mut port.uart else { return };
    for _ in 0..PATIENCE {
        if uart.lsr().contains(LSR::TRANSMITTER_EMPTY) {
            break;
        }
    }
}

/// The next byte that was typed, if any.
pub fn read_byte() -> Option<u8> {
    PORT.lock().uart.as_mut()?.try_receive_byte().ok()
}

/// Lets the port raise `vector` on this CPU when a byte arrives. The handler must call [`read_byte`] until it gives
/// `None`, else no further interrupt comes: the line is edge-triggered.
pub fn enable_receive_interrupt(vector: u8) {
    if PORT.lock().uart.is_none() {
        return;
    }
    match apic::route_isa(COM1_IRQ, vector, apic::id()) {
        Ok(()) => PORT.lock().uart.iter_mut().for_each(|uart| uart.enable_interrupts(IER::DATA_READY)),
        Err(error) => log::warn!("no console input: serial interrupt {COM1_IRQ}: {error}"),
    }
}

/// Prints whatever state the console's lock is in. For the last words of a panic, when all other CPUs are stopped.
pub struct Emergency;

impl fmt::Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The holder may be a CPU that is stopped for good, or this very CPU: it gets time to finish, then is ignored.
        for _ in 0..PATIENCE {
            if let Some(mut port) = PORT.try_lock() {
                port.write(text.as_bytes());
                return Ok(());
            }
            core::hint::spin_loop();
        }
        // SAFETY: the lock's holder will not go on: this CPU is panicking, and the others are stopped by NMI. The port
        // may be in the middle of a line, which garbles that line and nothing else.
        unsafe { PORT.force_unlock() };
        PORT.lock().write(text.as_bytes());
        Ok(())
    }
}
