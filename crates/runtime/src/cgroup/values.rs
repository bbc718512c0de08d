//! Checks and translations of limits that both versions share.

use ketch_spec::runtime::{BlockIo, LinuxResources, Memory, Rdma};

use crate::error::{Error, Result};

/// What a limit of memory is in the kernel's files: -1 is without limit; None: not given. As with runc, whose callers
/// rely on it, 0 is not given either.
pub(super) fn bytes(given: Option<i64>) -> Option<i64> {
    given.filter(|&bytes| bytes != 0)
}

/// Swap alone, which version 2 limits, from memory and swap together. As runc has it.
pub(super) fn swap_alone(memory: &Memory) -> Result<Option<i64>> {
    match (bytes(memory.limit), bytes(memory.swap)) {
        // Unlimited memory means unlimited swap, unless that is said otherwise.
        (Some(..0), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(..0)) => Ok(Some(-1)),
        (Some(limit), Some(total)) if limit > 0 && total >= limit => Ok(Some(total - limit)),
        _ => {
            let reason = "memory plus swap needs a limit of memory that is not above it";
            Err(Error::invalid("linux.resources.memory.swap", reason))
        }
    }
}

/// Checks what does not depend on the version.
pub(super) fn check(resources: &LinuxResources) -> Result<()> {
    for limit in &resources.hugepage_limits {
        check_page_size(&limit.page_size)?;
    }
    for (name, value) in &resources.unified {
        check_unified(name, value)?;
    }
    for (device, limit) in &resources.rdma {
        let wrong = |reason: String| Err(Error::invalid("linux.resources.rdma", reason));
        if device.is_empty() || device.contains(char::is_whitespace) {
            return wrong(format!("{device:?} is no name of a device"));
        }
        if limit.hca_handles.is_none() && limit.hca_objects.is_none() {
            return wrong(format!("{device} has neither hcaHandles nor hcaObjects"));
        }
    }
    if let Some(memory) = &resources.memory
        && let Some(swappiness) = memory.swappiness
        && swappiness > 100
    {
        let reason = format!("{swappiness} is not between 0 and 100");
        return Err(Error::invalid("linux.resources.memory.swappiness", reason));
    }
    resources.block_io.as_ref().map_or(Ok(()), check_block_io)
}

/// The kernel's names of page sizes: they become part of files' names.
fn check_page_size(size: &str) -> Result<()> {
    let digits = size.trim_end_matches("B").trim_end_matches(['K', 'M', 'G']);
    let unit = &size[digits.len()..];
    let number = !digits.is_empty()
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    if number && matches!(unit, "KB" | "MB" | "GB") {
        return Ok(());
    }
    let reason = format!("{size:?} is no size of pages, such as 2MB or 1GB");
    Err(Error::invalid("linux.resources.hugepageLimits", reason))
}

fn check_unified(name: &str, value: &str) -> Result<()> {
    let wrong = |reason: String| Err(Error::invalid("linux.resources.unified", reason));
    if name.contains('/') || name.contains('\0') {
        return wrong(format!("{name:?} is no name of a file"));
    }
    match name.split_once('.') {
        Some((controller, parameter)) if !controller.is_empty() && !parameter.is_empty() => {}
        _ => return wrong(format!("{name:?} is not CONTROLLER.PARAMETER")),
    }
    if value.contains('\0') {
        return wrong(format!("the value of {name} has a zero byte"));
    }
    Ok(())
}

fn check_block_io(block_io: &BlockIo) -> Result<()> {
    let devices = block_io.weight_device.iter();
    let weights = devices
        .clone()
        .flat_map(|device| [device.weight, device.leaf_weight]);
    for weight in [block_io.weight, block_io.leaf_weight]
        .into_iter()
        .chain(weights)
        .flatten()
    {
        if weight != 0 && !(10..=1000).contains(&weight) {
            let reason = format!("{weight} is not between 10 and 1000");
            return Err(Error::invalid("linux.resources.blockIO.weight", reason));
        }
    }
    if let Some(device) = devices
        .clone()
        .find(|device| device.weight.is_none() && device.leaf_weight.is_none())
    {
        let reason = format!(
            "{}:{} has neither weight nor leafWeight",
            device.major, device.minor
        );
        return Err(Error::invalid(
            "linux.resources.blockIO.weightDevice",
            reason,
        ));
    }
    let throttles = [
        &block_io.throttle_read_bps_device,
        &block_io.throttle_write_bps_device,
        &block_io.throttle_read_iops_device,
        &block_io.throttle_write_iops_device,
    ];
    let throttled = throttles
        .into_iter()
        .flatten()
        .map(|device| (device.major, device.minor));
    for (major, minor) in devices
        .map(|device| (device.major, device.minor))
        .chain(throttled)
    {
        if u32::try_from(major).is_err() || u32::try_from(minor).is_err() {
            let reason = format!("{major}:{minor} is no device number");
            return Err(Error::invalid("linux.resources.blockIO", reason));
        }
    }
    Ok(())
}

/// Refuses a limit of memory that is below what is in use.
pub(super) fn check_usage(limit: i64, usage: Option<u64>) -> Result<()> {
    match (u64::try_from(limit), usage) {
        (Ok(limit), Some(usage)) if limit < usage => {
            let reason =
                format!("{limit} is below the {usage} bytes that are in use (checkBeforeUpdate)");
            Err(Error::invalid("linux.resources.memory.limit", reason))
        }
        _ => Ok(()),
    }
}

/// What limits the number of tasks.
pub(super) fn tasks(limit: i64) -> String {
    if limit > 0 {
        limit.to_string()
    } else {
        "max".into()
    }
}

/// The line of `rdma.max`.
pub(super) fn rdma_line(device: &str, limit: &Rdma) -> String {
    let value = |value: Option<u32>| value.map_or("max".to_owned(), |value| value.to_string());
    format!(
        "{device} hca_handle={} hca_object={}",
        value(limit.hca_handles),
        value(limit.hca_objects)
    )
}

/// Shares of version 1 (2 to 262144) as a weight of version 2 (1 to 10000), in a straight line: as runc before 1.4 and
/// crun before 1.23 have it.
pub(super) fn cpu_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// A weight of block devices of version 1 (10 to 1000) as one of version 2 (1 to 10000).
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_weights_become_weights() {
        for (shares, weight) in [
            (0, 1),
            (2, 1),
            (1024, 39),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(cpu_weight(shares), weight);
        }
        for (weight, converted) in [(10, 1), (500, 4950), (1000, 10_000)] {
            assert_eq!(io_weight(weight), converted);
        }
    }

    #[test]
    fn swap_is_what_is_above_the_memory() {
        let swap = |limit, swap| {
            let memory = Memory {
                limit,
                swap,
                ..Memory::default()
            };
            swap_alone(&memory).map_err(drop)
        };
        assert_eq!(swap(Some(100), Some(300)), Ok(Some(200)));
        assert_eq!(swap(Some(100), Some(100)), Ok(Some(0)));
        assert_eq!(swap(Some(100), Some(-1)), Ok(Some(-1)));
        assert_eq!(swap(Some(100), Some(0)), Ok(None));
        assert_eq!(swap(Some(-1), None), Ok(Some(-1)));
        assert_eq!(swap(None, Some(-1)), Ok(Some(-1)));
        for (limit, total) in [
            (Some(100), 99),
            (None, 100),
            (Some(-1), 100),
            (Some(0), 100),
        ] {
            assert!(swap(limit, Some(total)).is_err());
        }
    }

    #[test]
    fn names_of_files_are_checked() {
        for right in ["2MB", "1GB", "64KB"] {
            check_page_size(right).unwrap();
        }
        for wrong in [
            "", "MB", "2", "2MiB", "02MB", "../2MB", "2M", "2MBB", "2MB/x",
        ] {
            assert!(check_page_size(wrong).is_err(), "{wrong}");
        }
        check_unified("memory.high", "1").unwrap();
        for wrong in ["a/b.c", "memory", ".x", "x.", "", "../memory.max"] {
            assert!(check_unified(wrong, "1").is_err(), "{wrong}");
        }
    }

    #[test]
    fn rdma_limits_are_a_line() {
        let limit = Rdma {
            hca_handles: Some(3),
            hca_objects: None,
        };
        assert_eq!(
            rdma_line("mlx5_1", &limit),
            "mlx5_1 hca_handle=3 hca_object=max"
        );
    }

    #[test]
    fn an_entry_that_says_nothing_is_refused() {
        for (text, words) in [
            (
                r#"{"blockIO":{"weightDevice":[{"major":8,"minor":1}]}}"#,
                "8:1 has neither weight nor leafWeight",
            ),
            (
                r#"{"rdma":{"mlx5":{}}}"#,
                "mlx5 has neither hcaHandles nor hcaObjects",
            ),
        ] {
            let resources = serde_json::from_str(text).unwrap();
            let error = check(&resources).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_limit_below_the_usage_is_refused() {
        assert!(check_usage(10, Some(11)).is_err());
        for (limit, usage) in [(11, Some(11)), (-1, Some(11)), (1, None)] {
            check_usage(limit, usage).unwrap();
        }
    }
}
