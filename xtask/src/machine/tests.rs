//! Every mistake that a machine file can have, and what is said about it.

use super::*;
use std::fs;

const GOOD: &str = r#"
[console]
log_level = "debug"

[machine]
cpus = 2
memory = "512 MiB"

[[domain]]
name = "alpha"
kernel = "guest:demo"
memory = "32 MiB"

[[domain]]
name = "beta"
kernel = "guest:demo"
command_line = "hello world"
memory = "1 GiB"
vcpus = 4
"#;

/// `GOOD` fits into this machine.
const ENOUGH: Overrides = Overrides { memory: Some(Memory::gib(2)), cpus: None };

fn parse(text: &str) -> Result<Machine, Mistakes> {
    parse::parse(Path::new("machines/test.toml"), text, ENOUGH)
}

/// The mistakes in `GOOD` with `from` replaced by `to`, each as "line: field: …".
fn mistakes(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from));
    let text = GOOD.replacen(from, to, 1);
    parse(&text).unwrap_err().list.iter().map(Mistake::to_string).collect()
}

/// The only mistake.
fn mistake(from: &str, to: &str) -> String {
    let found = mistakes(from, to);
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}

#[test]
fn a_good_file_is_read() {
    let machine = parse(GOOD).unwrap();
    assert_eq!(machine.log_level, LogLevel::Debug);
    assert_eq!((machine.cpus, machine.memory), (2, Memory::gib(2)));
    assert_eq!(machine.firmware, Firmware::Bios);
    let [alpha, beta] = &machine.domains[..] else { panic!("{machine:?}") };
    assert_eq!((alpha.vcpus, alpha.command_line.as_str()), (1, ""));
    assert_eq!(alpha.kernel, Kernel::Built("demo".to_owned()));
    assert_eq!((beta.vcpus, beta.command_line.as_str(), beta.memory), (4, "hello world", Memory::gib(1)));
}

#[test]
fn the_machines_that_come_with_pavise_are_good() {
    for entry in fs::read_dir(crate::paths::root().join("machines")).unwrap() {
        let path = entry.unwrap().path();
        Machine::load(&path, Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn all_mistakes_are_reported_by_line_with_the_file() {
    let text = GOOD.replacen("cpus = 2", "cpus = 9", 1).replacen("\"beta\"", "\"\"", 1);
    let shown = parse(&text).unwrap_err().to_string();
    assert_eq!(
        shown,
        "machines/test.toml:6: machine.cpus: found 9; expected a whole number from 1 to 8\n\
         machines/test.toml:15: domain.name: found \"\"; expected 1 to 31 letters, digits, '-', '_' or '.'"
    );
}

#[test]
fn what_is_not_toml_is_reported() {
    assert_eq!(mistakes("cpus = 2", "cpus = = 2")[0], "6: not TOML: extra `=`, expected nothing");
}

#[test]
fn unknown_fields_are_reported() {
    assert_eq!(
        mistake("vcpus = 4", "vcpu = 4"),
        "19: domain.vcpu: unknown field; expected one of name, networks, kernel, control, ramdisk, command_line, memory, \
         vcpus, weight, cap, cpus, dedicated, disks"
    );
    assert_eq!(
        mistake("[console]", "[konsole]"),
        "2: konsole: unknown field; expected one of console, machine, domain"
    );
    assert!(mistake("cpus = 2", "cpus = 2\nram = 3").starts_with("7: machine.ram: unknown field"));
    assert!(mistake("log_level", "level").starts_with("3: console.level: unknown field"));
}

#[test]
fn missing_fields_are_reported() {
    assert_eq!(mistake("name = \"alpha\"\n", ""), "9: domain.name: missing; expected the domain's name");
    assert!(mistake("kernel = \"guest:demo\"\n", "").starts_with("9: domain.kernel: missing"));
    assert!(mistake("memory = \"32 MiB\"\n", "").starts_with("9: domain.memory: missing"));
    assert!(mistake("cpus = 2\n", "").starts_with("5: machine.cpus: missing"));
    assert!(mistake("memory = \"512 MiB\"\n", "").starts_with("5: machine.memory: missing"));
}

#[test]
fn one_domain_at_most_has_control() {
    assert_eq!(parse(GOOD).unwrap().domains.iter().filter(|domain| domain.control).count(), 0);
    let one = parse(&GOOD.replace("vcpus = 4", "control = true")).unwrap();
    assert_eq!(one.domains.iter().map(|domain| domain.control).collect::<Vec<_>>(), [false, true]);
    let two = GOOD.replace("vcpus = 4", "control = true").replace("\"32 MiB\"\n", "\"32 MiB\"\ncontrol = true\n");
    assert_eq!(
        parse(&two).unwrap_err().list.iter().map(Mistake::to_string).collect::<Vec<_>>(),
        ["20: domain.control: the domain of line 13 has control already; expected one domain at most"]
    );
}

#[test]
fn missing_and_malformed_sections_are_reported() {
    let shown = |text: &str| parse(text).unwrap_err().list.iter().map(Mistake::to_string).collect::<Vec<_>>();
    assert_eq!(
        shown(""),
        [
            "1: domain: missing; expected at least one section [[domain]]",
            "1: machine: missing; expected a section [machine]"
        ]
    );
    let machine = "[machine]\ncpus = 1\nmemory = \"512 MiB\"\n";
    assert_eq!(
        shown(&format!("{machine}[domain]\n")),
        ["4: domain: a single section; expected [[domain]], with double brackets"]
    );
    assert_eq!(
        shown(&format!("domain = []\n{machine}")),
        ["1: domain: an empty list; expected at least one section [[domain]]"]
    );
    assert_eq!(shown(&format!("domain = [1]\n{machine}")), ["1: domain: not a section; expected a section [[domain]]"]);
}

#[test]
fn values_of_the_wrong_kind_or_size_are_reported() {
    let cases = [
        ("cpus = 2", "cpus = \"2\"", "6: machine.cpus: found \"2\"; expected a whole number from 1 to 8"),
        ("cpus = 2", "cpus = 0", "6: machine.cpus: found 0; expected a whole number from 1 to 8"),
        ("vcpus = 4", "control = 1", "19: domain.control: found 1; expected true or false"),
        ("vcpus = 4", "vcpus = 33", "19: domain.vcpus: found 33; expected a whole number from 1 to 32"),
        ("vcpus = 4", "vcpus = -1", "19: domain.vcpus: found -1; expected a whole number from 1 to 32"),
        (
            "vcpus = 4",
            "vcpus = 1.5",
            "19: domain.vcpus: found a value of type float; expected a whole number from 1 to 32",
        ),
        (
            "\"512 MiB\"",
            "512",
            "7: machine.memory: found 512; expected an amount of memory from \"256 MiB\" to \"64 GiB\"",
        ),
        (
            "\"32 MiB\"",
            "\"1 MiB\"",
            "12: domain.memory: found \"1 MiB\"; expected an amount of memory from \"4 MiB\" to \"64 GiB\"",
        ),
        (
            "\"debug\"",
            "\"loud\"",
            "3: console.log_level: found \"loud\"; expected one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        ),
        (
            "cpus = 2",
            "cpus = 2\nfirmware = \"coreboot\"",
            "7: machine.firmware: found \"coreboot\"; expected one of \"bios\", \"uefi\"",
        ),
        ("cpus = 2", "cpus = 2\nchipset = \"x\"", "7: machine.chipset: found \"x\"; expected one of \"pc\", \"q35\""),
        (
            "cpus = 2",
            "cpus = 2\nwhen_all_stopped = 1",
            "7: machine.when_all_stopped: found 1; expected one of \"power-off\", \"stay\", \"debug-exit\"",
        ),
        ("cpus = 2", "cpus = 2\ncpu = 1", "7: machine.cpu: found 1; expected a text in double quotes"),
    ];
    for (from, to, expected) in cases {
        assert_eq!(mistake(from, to), expected);
    }
}

#[test]
fn two_domains_of_one_name_are_reported() {
    assert_eq!(
        mistake("\"beta\"", "\"alpha\""),
        "15: domain.name: \"alpha\" is also the name of the domain of line 10; expected another name"
    );
}

#[test]
fn names_have_plain_letters() {
    assert!(mistake("\"alpha\"", "\"a b\"").starts_with("10: domain.name: found \"a b\""));
    assert!(mistake("\"alpha\"", &format!("{:?}", "x".repeat(32))).contains("1 to 31 letters"));
}

#[test]
fn command_lines_have_a_limit() {
    let long = |len: usize| format!("\"{}\"", "x".repeat(len));
    assert!(parse(&GOOD.replacen("\"hello world\"", &long(1023), 1)).is_ok());
    assert_eq!(
        mistake("\"hello world\"", &long(1024)),
        "17: domain.command_line: 1024 bytes long; expected at most 1023 bytes"
    );
    assert!(mistake("hello world", "hello\\nworld").contains("control character"));
}

#[test]
fn kernels_are_looked_at() {
    let kernel = |to: &str| mistake("\"guest:demo\"", to);
    assert_eq!(
        kernel("\"guest:none\""),
        "11: domain.kernel: found \"guest:none\"; expected one of guest:bench, guest:demo, guest:devices, guest:direct, guest:dom0, guest:selftest"
    );
    assert_eq!(
        kernel("\"/no/such\""),
        "11: domain.kernel: /no/such does not exist; expected a Xen PV kernel: a 64-bit x86-64 ELF file, or a bzImage"
    );
    assert_eq!(
        kernel("\"debian:none\""),
        "11: domain.kernel: found \"debian:none\"; expected one of debian:amd64, debian:cloud-amd64, debian:rt-amd64, \
         debian:backports-amd64"
    );
    let machine = parse(&GOOD.replacen("\"guest:demo\"", "\"debian:amd64\"\nramdisk = \"debian:busybox\"", 1)).unwrap();
    assert_eq!(machine.domains[0].kernel, Kernel::Debian("amd64".to_owned()));
    assert_eq!(machine.domains[0].ramdisk, Some(Ramdisk::Busybox(Vec::new())));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    fs::write(&file, "hello").unwrap();
    assert!(kernel(&format!("{file:?}")).contains("is not an ELF file"));
    assert!(mistake("vcpus = 4", "ramdisk = \"/no/such\"").contains("domain.ramdisk: /no/such is missing"));
    assert!(parse(&GOOD.replacen("vcpus = 4", &format!("ramdisk = {file:?}"), 1)).is_ok());
}

#[test]
fn kernels_are_found_beside_the_machine_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(std::env::current_exe().unwrap(), folder.path().join("kernel")).unwrap();
    let path = folder.path().join("machine.toml");
    fs::write(&path, GOOD.replacen("guest:demo", "kernel", 1)).unwrap();
    let machine = Machine::load(&path, ENOUGH).unwrap();
    assert_eq!(machine.domains[0].kernel, Kernel::File(folder.path().join("kernel")));
}

#[test]
fn a_part_of_the_cpus_is_read() {
    let machine = parse(&GOOD.replacen("vcpus = 4", "weight = 512\ncap = 150\ncpus = \"0-1\"", 1)).unwrap();
    let [alpha, beta] = &machine.domains[..] else { panic!("{machine:?}") };
    assert_eq!(alpha.scheduling, Scheduling::default());
    assert_eq!(beta.scheduling, Scheduling { weight: 512, cap: 150, cpus: 0b11, dedicated: false });
    let machine = parse(&GOOD.replacen("vcpus = 4", "cpus = \"1\"\ndedicated = true", 1)).unwrap();
    assert_eq!(machine.domains[1].scheduling, Scheduling { cpus: 0b10, dedicated: true, ..Scheduling::default() });
}

#[test]
fn cpus_must_exist_and_be_enough() {
    assert!(mistake("vcpus = 4", "weight = 0").ends_with("expected a whole number from 1 to 65535"));
    assert!(mistake("vcpus = 4", "cap = 3201").ends_with("expected a whole number from 0 to 3200"));
    for wrong in ["", "a", "1-0", "0-64", "0,", "-1", "0 1"] {
        let expected = format!("19: domain.cpus: found {wrong:?}; expected CPUs as in \"0\", \"0-1\" or \"0,2-3\"");
        assert_eq!(mistake("vcpus = 4", &format!("cpus = {wrong:?}")), expected);
    }
    assert_eq!(
        mistake("vcpus = 4", "cpus = \"1-2\""),
        "19: domain.cpus: the machine does not have them all; expected CPUs from 0 to 1"
    );
    assert_eq!(
        mistake("vcpus = 4", "dedicated = true"),
        "14: domain.dedicated: without CPUs; expected `cpus` with a CPU for each vCPU"
    );
    assert_eq!(
        mistake("vcpus = 4", "vcpus = 2\ncpus = \"1\"\ndedicated = true"),
        "20: domain.cpus: 1 dedicated CPUs for 2 vCPUs; expected a CPU for each vCPU"
    );
    assert_eq!(
        mistake("vcpus = 4", "vcpus = 2\ncpus = \"0-1\"\ndedicated = true"),
        "9: domain.cpus: all dedicated to other domains; expected at least one CPU that is not"
    );
    let twice = GOOD.replace("kernel =", "cpus = \"1\"\ndedicated = true\nkernel =").replacen("vcpus = 4", "", 1);
    assert_eq!(
        parse(&twice).unwrap_err().to_string(),
        "machines/test.toml:18: domain.cpus: dedicated to another domain too; expected other CPUs"
    );
}

#[test]
fn memory_must_add_up() {
    let found = parse::parse(Path::new("t"), GOOD, Overrides::default()).unwrap_err();
    assert_eq!(
        found.to_string(),
        "t:7: machine.memory: 512 MiB is too little: the domains have 1056 MiB together, and Pavise needs 53 MiB; \
         expected at least \"1109 MiB\", or smaller domains (from line 9 on)"
    );
    let small = Overrides { memory: Some(Memory::gib(1)), cpus: Some(3) };
    assert!(parse::parse(Path::new("t"), GOOD, small).is_err());
    assert_eq!(parse::parse(Path::new("t"), GOOD, Overrides { cpus: Some(3), ..ENOUGH }).unwrap().cpus, 3);
}

#[test]
fn amounts_of_memory_are_read() {
    assert_eq!("512 MiB".parse(), Ok(Memory::mib(512)));
    assert_eq!("4GiB".parse(), Ok(Memory::gib(4)));
    for wrong in ["", "4", "4 GB", "-4 GiB", "1.5 GiB", "99999999999999999 GiB", "GiB"] {
        assert!(wrong.parse::<Memory>().is_err(), "{wrong}");
    }
    assert_eq!((Memory::gib(4).to_string(), Memory::mib(1108).to_string()), ("4 GiB".into(), "1108 MiB".into()));
}

/// `GOOD` with a control domain in front of its domains.
fn with_dom0(fields: &str) -> String {
    GOOD.replacen("[[domain]]", &format!("[dom0]\n{fields}\n[[domain]]"), 1)
}

#[test]
fn a_control_domain_is_read() {
    assert_eq!(parse(GOOD).unwrap().dom0, None);
    let dom0 = parse(&with_dom0("memory = \"64 MiB\"")).unwrap().dom0.unwrap();
    assert_eq!(dom0, Dom0::with_memory(Memory::mib(64)));
    assert_eq!(dom0.kernel, Kernel::Built("dom0".to_owned()));
    let dom0 = parse(&with_dom0("memory = \"512 MiB\"\nlog_level = \"warn\"\nweight = 512")).unwrap().dom0.unwrap();
    assert_eq!((dom0.memory, dom0.log_level, dom0.scheduling.weight), (Memory::mib(512), LogLevel::Warn, 512));
}

#[test]
fn mistakes_about_the_control_domain() {
    let said = |text: &str| parse(text).unwrap_err().list.iter().map(Mistake::to_string).collect::<Vec<_>>();
    assert_eq!(said(&with_dom0("")), ["9: dom0.memory: missing; expected an amount of memory, at least \"4 MiB\""]);
    assert_eq!(
        said(&with_dom0("memory = \"64 MiB\"\nname = \"x\"")),
        ["11: dom0.name: unknown field; expected one of kernel, command_line, memory, log_level, weight, cap, cpus, \
          dedicated"]
    );
    let good = with_dom0("memory = \"64 MiB\"");
    assert_eq!(
        said(&good.replace("vcpus = 4", "control = true")),
        ["21: domain.control: the section [dom0] of line 9 has control; expected false, or no [dom0]"]
    );
    assert_eq!(
        said(&good.replace("\"alpha\"", "\"dom0\"")),
        ["12: domain.name: the name of the section [dom0]; expected another name"]
    );
    assert_eq!(said(&with_dom0("memory = \"1 GiB\"").replace("\"32 MiB\"", "\"128 MiB\"")).len(), 1, "the sum counts");
}

/// `GOOD` with a control domain, disks of the machine, and disks of the first domain.
fn with_disks(machine: &str, domain: &str) -> String {
    let text = with_dom0("memory = \"64 MiB\"").replacen("[dom0]", &format!("{machine}\n[dom0]"), 1);
    text.replacen("name = \"alpha\"", &format!("name = \"alpha\"\ndisks = [{domain}]"), 1)
}

const DISK: &str = "[[machine.disk]]\nname = \"data\"\nsize = \"16 MiB\"\n\
                    partitions = [{ label = \"one\", size = \"4 MiB\" }, { label = \"two\", size = \"10 MiB\" }]";

#[test]
fn disks_are_read() {
    let disks = "{ name = \"xvda\", source = \"partition:one\" }, { name = \"xvdp\", source = \"partition:two\", \
                 read_only = true }";
    let machine = parse(&with_disks(DISK, disks)).unwrap();
    let partition = |label: &str, mib| Partition { label: label.to_owned(), size: Memory::mib(mib) };
    let content = Content::Made { size: Memory::mib(16), partitions: vec![partition("one", 4), partition("two", 10)] };
    assert_eq!(machine.disks, [Disk { name: "data".to_owned(), content, interface: Interface::Virtio }]);
    let disk = |name: &str, label: &str, read_only| DomainDisk {
        name: name.to_owned(),
        source: Source::Partition(label.to_owned()),
        read_only,
    };
    assert_eq!(machine.domains[0].disks, [disk("xvda", "one", false), disk("xvdp", "two", true)]);
    assert_eq!(machine.domains[1].disks, []);
    let whole = parse(&with_disks(DISK, "{ name = \"xvdb\", source = \"disk:data\" }")).unwrap();
    assert_eq!(whole.domains[0].disks[0].source, Source::Disk("data".to_owned()));
}

#[test]
fn a_disk_may_have_a_debian() {
    let root = DISK.replace("16 MiB", "1 GiB").replacen("partitions", "content = \"debian:bookworm\"\n#", 1);
    let machine = parse(&with_disks(&root, "{ name = \"xvda\", source = \"disk:data\" }")).unwrap();
    assert_eq!(machine.disks[0].content, Content::Debian { release: "bookworm".to_owned(), size: Memory::gib(1) });
}

#[test]
fn mistakes_about_disks() {
    let said = |machine: &str, domain: &str| {
        let mistakes = parse(&with_disks(machine, domain)).unwrap_err();
        mistakes.list.iter().map(|mistake| mistake.to_string()).collect::<Vec<_>>().join("\n")
    };
    let one = "{ name = \"xvda\", source = \"partition:one\" }";
    let debian = DISK.replacen("name", "content = \"debian:bookworm\"\nname", 1);
    let cases = [
        (DISK.replace("16 MiB", "15 MiB"), one.to_owned(), "machine.disk.size: 15 MiB is too little"),
        (DISK.replace("\"two\"", "\"one\""), one.to_owned(), "\"one\" is also the partition of line"),
        (DISK.replace("size = \"16 MiB\"\n", "\n"), one.to_owned(), "machine.disk.size: missing"),
        (DISK.replace("size = \"16 MiB\"\n", "image = \"no\"\n"), one.to_owned(), "is missing or no file"),
        (DISK.to_owned(), one.replace("xvda", "sda"), "domain.disks.name: found \"sda\"; expected xvda to xvdp"),
        (DISK.to_owned(), one.replace("partition:", "file:"), "expected \"disk:NAME\" or \"partition:LABEL\""),
        (DISK.to_owned(), one.replace(", source", ", read_only = true, sauce"), "source: missing"),
        (DISK.to_owned(), one.replace(" }", ", backend = \"x\" }"), "expected either source or backend"),
        (DISK.to_owned(), one.replace("one", "three"), "there is no partition:three"),
        (DISK.to_owned(), format!("{one}, {one}"), "\"xvda\" is also the disk of line"),
        (DISK.to_owned(), format!("{one}, {}", one.replace("xvda", "xvdb")), "partition:one is also used in line"),
        (
            DISK.to_owned(),
            format!("{one}, {{ name = \"xvdb\", source = \"disk:data\" }}"),
            "disk:data is also used in line",
        ),
        (
            debian.clone(),
            one.to_owned(),
            "machine.disk.size: 16 MiB is too little for Debian; expected at least \"1 GiB\"",
        ),
        (debian.clone(), one.to_owned(), "machine.disk.partitions: content goes on a whole disk"),
        (
            debian.replace("bookworm", "bo"),
            one.to_owned(),
            "machine.disk.content: found \"debian:bo\"; expected one of debian:bookworm",
        ),
        (debian.replace("debian:", ""), one.to_owned(), "found \"bookworm\"; expected debian:bookworm"),
        (
            debian.replace("size = \"16 MiB\"", &format!("image = {:?}", std::env::current_exe().unwrap())),
            one.to_owned(),
            "machine.disk.content: an image has its own content",
        ),
    ];
    for (machine, domain, mistake) in cases {
        let said = said(&machine, &domain);
        assert!(said.contains(mistake), "{said}");
    }
}

#[test]
fn disks_need_a_control_domain() {
    let text = GOOD.replacen("[[domain]]", &format!("{DISK}\n[[domain]]"), 1);
    let said = parse(&text).unwrap_err().to_string();
    assert!(said.contains("there is no [dom0], which drives them"), "{said}");
}

/// `GOOD` with a control domain, a network of the machine, and devices of the first domain.
fn with_network(machine: &str, domain: &str) -> String {
    let text = GOOD.replacen("[[domain]]", &format!("{machine}\n[dom0]\nmemory = \"64 MiB\"\n\n[[domain]]"), 1);
    text.replacen("name = \"alpha\"", &format!("name = \"alpha\"\nnetworks = [{domain}]"), 1)
}

#[test]
fn networks_are_read() {
    let network = "[machine.network]\nforwards = [{ host = 8080, to = \"10.0.2.15:80\" }]\n";
    let devices = "{ mac = \"00:16:3E:01:02:ff\", rate = \"10 MiB/s\" }, { any_source = true }, {}";
    let machine = parse(&with_network(network, devices)).unwrap();
    let uplink = machine.network.unwrap();
    assert_eq!(uplink.forwards, [Forward { host: 8080, to: "10.0.2.15:80".parse().unwrap() }]);
    assert!(uplink.args().contains(&"user,id=uplink,hostfwd=tcp:127.0.0.1:8080-10.0.2.15:80".to_owned()));
    let [first, second, third] = &machine.domains[0].networks[..] else { panic!("{:?}", machine.domains[0]) };
    let mac = [0, 0x16, 0x3e, 1, 2, 0xff];
    assert_eq!(*first, DomainNetwork { mac, rate: Some(10 << 20), any_source: false, backend: None });
    assert!(second.any_source && second.mac[..3] == [0, 0x16, 0x3e] && second.mac != third.mac);
    assert_eq!(parse(&with_network(network, devices)).unwrap().domains[0].networks[2], *third, "the same each time");
    assert_eq!(parse(GOOD).unwrap().network, None);
}

#[test]
fn mistakes_about_networks() {
    let good = "[machine.network]\n";
    for (machine, domain, want) in [
        ("[machine.network]\nports = 1\n", "{}", "machine.network.ports: unknown field"),
        (
            "[machine.network]\nforwards = [{ host = 0, to = \"10.0.2.15:80\" }]\n",
            "{}",
            "machine.network.forwards.host",
        ),
        ("[machine.network]\nforwards = [{ host = 1, to = \"10.0.2.15\" }]\n", "{}", "machine.network.forwards.to"),
        (good, "{ mac = \"01:16:3e:01:02:03\" }", "domain.networks.mac"),
        (good, "{ mac = \"00:16:3e:01:02\" }", "domain.networks.mac"),
        (good, "{ mac = \"00:16:3e:01:02:0g\" }", "domain.networks.mac"),
        (good, "{ rate = \"10 MB/s\" }", "domain.networks.rate"),
        (good, "{ rate = \"0 MiB/s\" }", "domain.networks.rate"),
        (good, "{ mac = \"00:16:3e:01:02:03\" }, { mac = \"00:16:3e:01:02:03\" }", "has this address, too"),
        (good, "{}, {}, {}, {}, {}, {}, {}, {}, {}", "too many devices"),
        (good, "1", "domain.networks: not a table"),
    ] {
        let mistakes = parse(&with_network(machine, domain)).unwrap_err();
        let told = mistakes.list.iter().map(Mistake::to_string).collect::<Vec<_>>();
        assert!(told.len() == 1 && told[0].contains(want), "{want}: {told:#?}");
    }
    let text = GOOD.replacen("name = \"alpha\"", "name = \"alpha\"\nnetworks = [{}]", 1);
    assert!(parse(&text).unwrap_err().list[0].to_string().contains("there is no [dom0], which drives them"));
}

/// `GOOD` with a control domain, and devices of its second domain.
fn with_drivers(fields: &str) -> String {
    with_dom0("memory = \"64 MiB\"").replacen("name = \"beta\"", &format!("name = \"beta\"\n{fields}"), 1)
}

#[test]
fn driver_domains_are_read() {
    let fields = "disks = [{ name = \"xvda\", backend = \"alpha\", read_only = true }]\n\
                  networks = [{}, { backend = \"alpha\" }]";
    let beta = &parse(&with_drivers(fields)).unwrap().domains[1];
    let source = Source::Domain("alpha".to_owned());
    assert_eq!(beta.disks, [DomainDisk { name: "xvda".to_owned(), source, read_only: true }]);
    let backends: Vec<_> = beta.networks.iter().map(|network| network.backend.as_deref()).collect();
    assert_eq!(backends, [None, Some("alpha")]);
}

#[test]
fn a_driver_domain_stands_in_front_of_those_it_serves() {
    let said = |text: &str| parse(text).unwrap_err().to_string();
    for (name, want) in [
        ("beta", "domain.disks.backend: a domain can't serve itself; expected the name of a domain further up"),
        ("gamma", "domain.disks.backend: there is no domain \"gamma\""),
        ("dom0", "domain.disks.backend: dom0 serves what names no backend"),
    ] {
        let said = said(&with_drivers(&format!("disks = [{{ name = \"xvda\", backend = {name:?} }}]")));
        assert!(said.contains(want) && said.lines().count() == 1, "{said}");
    }
    let text = with_dom0("memory = \"64 MiB\"");
    let text = text.replacen("name = \"alpha\"", "name = \"alpha\"\nnetworks = [{ backend = \"beta\" }]", 1);
    let said = said(&text);
    assert!(said.contains("domain.networks.backend: beta is created later, in line "), "{said}");
}
