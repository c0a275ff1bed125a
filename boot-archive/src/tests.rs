//! Round trips, and hostile input: whatever the bytes are, reading them returns.

use super::*;
use proptest::prelude::*;

fn domain(name: &str, kernel: Blob, ramdisk: Option<Blob>) -> DomainConfig {
    DomainConfig {
        name: name.to_string(),
        control: false,
        command_line: format!("story={name}"),
        memory_pages: 8192,
        vcpus: 2,
        scheduling: Scheduling { weight: 512, cap: 50, cpus: 0b101, dedicated: false },
        kernel,
        ramdisk,
        networks: vec![NetworkConfig {
            mac: [0, 0x16, 0x3e, 1, 2, 3],
            rate: Some(1 << 20),
            any_source: false,
            backend: Some("driver".into()),
        }],
        disks: vec![DiskConfig { name: "xvda".into(), source: DiskSource::Partition(name.into()), read_only: true }],
    }
}

/// An archive with two domains of one kernel and one RAM disk.
fn sample(kernel: &[u8], ramdisk: &[u8], symbols: &[u8]) -> Vec<u8> {
    let mut writer = ArchiveWriter::new();
    let kernel_blob = writer.add(kernel);
    let ramdisk_blob = writer.add(ramdisk);
    let symbols = writer.add(symbols);
    let config = BootConfig {
        console: ConsoleConfig { log_level: LogLevel::Info },
        when_all_stopped: WhenAllStopped::DebugExit(0xf4),
        xpti: Xpti::On,
        domains: vec![domain("alpha", kernel_blob, Some(ramdisk_blob)), domain("beta", writer.add(kernel), None)],
        symbols: Some(symbols),
    };
    writer.finish(config).unwrap()
}

/// Reads everything there is to read, as the hypervisor would.
fn read_all(bytes: &[u8]) {
    let Ok(archive) = Archive::parse(bytes) else { return };
    let config = archive.config();
    for domain in &config.domains {
        let _ = archive.blob(&domain.kernel);
        let _ = domain.ramdisk.map(|blob| archive.blob(&blob));
    }
    if let Some(Ok(symbols)) = config.symbols.map(|blob| archive.blob(&blob)) {
        read_symbols(symbols);
    }
}

fn read_symbols(bytes: &[u8]) {
    let Ok(symbols) = Symbols::parse(bytes) else { return };
    for offset in [0, 1, 0x1000, 0xffff, u32::MAX] {
        let _ = symbols.lookup(offset);
    }
}

#[test]
fn equal_kernels_are_stored_once() {
    let bytes = sample(&[7; 5000], b"ramdisk", b"");
    let archive = Archive::parse(&bytes).unwrap();
    let domains = &archive.config().domains;
    assert_eq!(domains[0].kernel, domains[1].kernel);
    assert!(bytes.len() < 6000);
}

#[test]
fn a_damaged_blob_refuses_only_itself() {
    let mut bytes = sample(&[7; 5000], b"ramdisk", b"");
    let at = bytes.windows(7).position(|window| window == b"ramdisk").unwrap();
    bytes[at] ^= 1;
    let archive = Archive::parse(&bytes).unwrap();
    let domain = &archive.config().domains[0];
    assert_eq!(archive.blob(&domain.kernel), Ok(&[7; 5000][..]));
    assert!(matches!(archive.blob(&domain.ramdisk.unwrap()), Err(BlobError::Checksum { .. })));
}

#[test]
fn a_blob_outside_the_data_is_refused() {
    let bytes = sample(b"kernel", b"ramdisk", b"");
    let archive = Archive::parse(&bytes).unwrap();
    let good = archive.config().domains[0].kernel;
    for (offset, len) in
        [(0, 16), (good.offset, u64::MAX), (u64::MAX, 1), (bytes.len() as u64 + 16, 0), (good.offset + 1, 1)]
    {
        assert_eq!(archive.blob(&Blob { offset, len, crc32: 0 }), Err(BlobError::OutOfBounds), "{offset} {len}");
    }
}

#[test]
fn refusals_say_why() {
    let good = sample(b"kernel", b"ramdisk", b"");
    let refusal = |bytes: &[u8]| Archive::parse(bytes).unwrap_err();
    let len = good.len() as u64;
    assert_eq!(refusal(b""), ArchiveError::Truncated { expected: 32, found: 0 });
    assert_eq!(refusal(&good[..good.len() - 1]), ArchiveError::Truncated { expected: len, found: len - 1 });
    assert_eq!(refusal(&[0; 64]), ArchiveError::BadMagic);
    let mut other = good.clone();
    other[8] = 9;
    assert_eq!(refusal(&other), ArchiveError::BadVersion { found: 9 });
    let mut other = good.clone();
    other[HEADER_LEN] ^= 1;
    assert_eq!(refusal(&other), ArchiveError::Damaged);
}

#[test]
fn an_undecodable_configuration_is_refused() {
    let config = [0xff; 40];
    let mut header = header::Header { magic: MAGIC, version: VERSION, config_len: 40, total_len: 72, crc32: 0 };
    header.crc32 = header.expected_crc32(&config);
    let bytes = [&header.encode()[..], &config].concat();
    assert_eq!(Archive::parse(&bytes).unwrap_err(), ArchiveError::BadConfig);
}

#[test]
fn symbols_name_the_function_that_holds_an_address() {
    let table = encode_symbols([(0x40, 0x10, "beta"), (0x10, 0x20, "alpha::run"), (0x50, 0, "no_length")]).unwrap();
    let symbols = Symbols::parse(&table).unwrap();
    let cases = [
        (0x0f, None),
        (0x10, Some(("alpha::run", 0))),
        (0x2f, Some(("alpha::run", 0x1f))),
        (0x30, None),
        (0x4f, Some(("beta", 0xf))),
        (0x58, Some(("no_length", 8))),
    ];
    for (offset, expected) in cases {
        assert_eq!(symbols.lookup(offset), expected, "{offset:#x}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        kernel in prop::collection::vec(any::<u8>(), 0..3000),
        ramdisk in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = sample(&kernel, &ramdisk, &[]);
        let archive = Archive::parse(&bytes).unwrap();
        let config = archive.config();
        prop_assert_eq!(archive.blob(&config.domains[0].kernel), Ok(&kernel[..]));
        prop_assert_eq!(archive.blob(&config.domains[1].kernel), Ok(&kernel[..]));
        prop_assert_eq!(archive.blob(&config.domains[0].ramdisk.unwrap()), Ok(&ramdisk[..]));
        prop_assert_eq!(config.when_all_stopped, WhenAllStopped::DebugExit(0xf4));
    }

    #[test]
    fn truncation_is_always_noticed(cut in 1usize..400) {
        let bytes = sample(&[1; 200], &[2; 100], &[]);
        let kept = bytes.len().saturating_sub(cut);
        let is_truncated = matches!(Archive::parse(&bytes[..kept]), Err(ArchiveError::Truncated { .. }));
        prop_assert!(is_truncated);
    }

    #[test]
    fn a_flipped_bit_never_goes_unnoticed_in_the_header(bit in 0usize..28 * 8) {
        let mut bytes = sample(&[1; 200], &[2; 100], &[]);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Archive::parse(&bytes).is_err());
    }

    #[test]
    fn flipped_bits_are_survived(bits in prop::collection::vec(any::<prop::sample::Index>(), 1..8)) {
        let symbols = encode_symbols([(0, 64, "start"), (64, 32, "stop")]).unwrap();
        let mut bytes = sample(&[1; 200], &[2; 100], &symbols);
        for bit in bits {
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        read_all(&bytes);
    }

    /// Random configuration bytes behind a header whose checksum is right: the decoder itself meets them.
    #[test]
    fn crafted_configurations_are_survived(config in prop::collection::vec(any::<u8>(), 0..200)) {
        let config_len = u32::try_from(config.len()).unwrap();
        let total_len = (HEADER_LEN + config.len()) as u64;
        let mut header = header::Header { magic: MAGIC, version: VERSION, config_len, total_len, crc32: 0 };
        header.crc32 = header.expected_crc32(&config);
        read_all(&[&header.encode()[..], &config].concat());
    }

    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_all(&bytes);
        read_symbols(&bytes);
    }

    #[test]
    fn symbol_tables_with_flipped_bits_are_survived(bit in any::<prop::sample::Index>()) {
        let mut table = encode_symbols([(0, 0x1000, "start"), (0x1000, 32, "stop")]).unwrap();
        let bit = bit.index(table.len() * 8);
        table[bit / 8] ^= 1 << (bit % 8);
        read_symbols(&table);
    }
}
