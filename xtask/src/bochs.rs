//! Bochs: an emulator that shares nothing with QEMU. Its CPUs are models of real ones, from the first Athlon 64 to
//! Tiger Lake, and they are strict: a register or bit that a model lacks faults there, where QEMU's software CPU looks away. Time passes by instructions, whatever the host does.

use crate::{machine::Memory, session::Session};
use anyhow::{Context, Result, ensure};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Its firmware, of Debian's package `bochsbios`.
const BIOS: &str = "/usr/share/bochs/BIOS-bochs-latest";
/// Firmware of a display on which the boot loader finds a mode that it can write in, of Debian's package `vgabios`.
const DISPLAY_BIOS: &str = "/usr/share/vgabios/vgabios.cirrus.bin";

/// Heads, and sectors of 512 bytes on a track, of the disk.
const GEOMETRY: (u64, u64) = (16, 63);

/// What Bochs shall play.
#[derive(Clone, Copy, Debug)]
pub struct Hardware<'a> {
    /// CPU model, as `bochs --help cpu` lists them.
    pub cpu: &'a str,
    /// Number of CPUs. They take turns, a few instructions each.
    pub cpus: u32,
    /// Memory.
    pub memory: Memory,
}

impl Hardware<'_> {
    /// Boots a BIOS image, whose file is lengthened to whole cylinders. The serial line is recorded in the file `log`; what
    /// Bochs logs goes to a file beside it.
    ///
    /// # Errors
    /// When Bochs isn't installed, or a file can't be written.
    pub fn boot_image(&self, image: &Path, log: &Path, limit: Duration) -> Result<Session> {
        for file in [BIOS, DISPLAY_BIOS] {
            ensure!(
                Path::new(file).exists(),
                "no {file}: install the packages bochs, bochs-sdl, bochsbios and vgabios"
            );
        }
        let cylinders = whole_cylinders(image)?;
        // Bochs leaves it behind when it is killed.
        let mut lock = image.as_os_str().to_owned();
        lock.push(".lock");
        let _ = fs::remove_file(PathBuf::from(lock));

        let folder = tempfile::tempdir()?;
        let (settings, commands) = (folder.path().join("bochsrc"), folder.path().join("commands"));
        fs::write(&settings, self.settings(image, cylinders, &log.with_extension("bochs.log")))?;
        // Debian's Bochs has its debugger built in, which waits for commands at the first instruction.
        fs::write(&commands, "continue\n")?;
        let mut bochs = Command::new("env");
        // Nobody looks at the display. This library shows all modes, and needs no screen with this driver.
        bochs.args(["SDL_VIDEODRIVER=dummy", "bochs", "-q"]).arg("-f").arg(settings).arg("-rc").arg(commands);
        Ok(Session::start_on_terminal(&bochs, log, limit).context("starting Bochs")?.keeping(folder))
    }

    fn settings(&self, image: &Path, cylinders: u64, log: &Path) -> String {
        let Hardware { cpu, cpus, memory } = self;
        let (heads, sectors) = GEOMETRY;
        let (memory, image, log) = (memory.as_mib(), image.display(), log.display());
        // `ips`: the TSC's ticks in a second.
        format!(
            "config_interface: textconfig\n\
             display_library: sdl2\n\
             cpu: model={cpu}, count={cpus}, ips=50000000, quantum=16, reset_on_triple_fault=0, ignore_bad_msrs=0\n\
             memory: guest={memory}, host={memory}\n\
             romimage: file={BIOS}\n\
             vgaromimage: file={DISPLAY_BIOS}\n\
             vga: extension=cirrus, update_freq=1, realtime=0\n\
             pci: enabled=1, chipset=i440fx, slot1=cirrus\n\
             ata0-master: type=disk, path=\"{image}\", mode=flat, cylinders={cylinders}, heads={heads}, spt={sectors}\n\
             boot: disk\n\
             com1: enabled=1, mode=term, dev=/dev/stdin\n\
             log: \"{log}\"\n\
             panic: action=fatal\n\
             error: action=report\n\
             info: action=ignore\n\
             debug: action=ignore\n\
             clock: sync=none\n"
        )
    }
}

/// Whether the machine of a session that has ended had powered itself off. The exit status doesn't tell: Bochs 2.7 crashes on
/// its way out when it has several CPUs.
pub fn has_powered_off(session: &Session) -> bool {
    session.messages().contains("ACPI control: soft power off")
}

/// Lengthens an image to whole cylinders, and returns how many they are.
fn whole_cylinders(image: &Path) -> Result<u64> {
    let file = File::options().write(true).open(image).with_context(|| format!("cannot write {}", image.display()))?;
    let cylinder = GEOMETRY.0 * GEOMETRY.1 * 512;
    let cylinders = file.metadata()?.len().div_ceil(cylinder);
    file.set_len(cylinders * cylinder)?;
    Ok(cylinders)
}
