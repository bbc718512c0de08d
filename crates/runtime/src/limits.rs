//! What a process may use: resource limits, scheduling, input and output priority, the out-of-memory score.

use ketch_spec::runtime::{LinuxPersonality, Process};
use ketch_sys::process::{
    Scheduling, raise_resource_limit, set_io_priority, set_personality, set_resource_limit,
    set_scheduling,
};
use rustix::thread::CpuSet;

use crate::error::{Called, During, Error, Result};
use crate::procfs::Procfs;

/// Names in the order of their numbers, without `RLIMIT_`.
const LIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// Limits and priorities, checked.
#[derive(Debug, Default)]
pub(crate) struct LimitPlan {
    resources: Vec<(usize, u64, u64)>,
    out_of_memory_score: Option<i32>,
    scheduling: Option<Scheduling>,
    io_priority: Option<(u16, u16)>,
    personality: Option<u32>,
}

/// In the parent: checks and translates.
pub(crate) fn plan(process: &Process, personality: Option<&LinuxPersonality>) -> Result<LimitPlan> {
    let mut resources: Vec<(usize, u64, u64)> = Vec::new();
    for limit in &process.rlimits {
        let bare = limit.kind.strip_prefix("RLIMIT_").unwrap_or(&limit.kind);
        let field = || format!("process.rlimits {}", limit.kind);
        let Some(number) = LIMITS.iter().position(|name| *name == bare) else {
            return Err(Error::invalid(field(), "there is no such limit"));
        };
        if resources.iter().any(|&(seen, ..)| seen == number) {
            return Err(Error::invalid(field(), "it is listed twice"));
        }
        if limit.soft > limit.hard {
            return Err(Error::invalid(
                field(),
                "the soft limit is above the hard one",
            ));
        }
        resources.push((number, limit.soft, limit.hard));
    }
    check_affinity(process)?;
    Ok(LimitPlan {
        resources,
        out_of_memory_score: process.oom_score_adj,
        scheduling: scheduling(process)?,
        io_priority: io_priority(process)?,
        personality: personality.map(domain).transpose()?,
    })
}

/// It is for processes that join only, which would be the ones to fail.
fn check_affinity(process: &Process) -> Result<()> {
    let wanted = process.exec_cpu_affinity.iter();
    let lists = wanted.flat_map(|wanted| [&wanted.initial, &wanted.last]);
    for list in lists.filter(|list| !list.is_empty()) {
        cpu_set("process.execCPUAffinity", list)?;
    }
    Ok(())
}

fn domain(personality: &LinuxPersonality) -> Result<u32> {
    if let Some(flag) = personality.flags.first() {
        return Err(Error::unsupported(
            format!("linux.personality flag {flag}"),
            "",
        ));
    }
    match personality.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(Error::invalid(
            "linux.personality",
            format!("unknown domain {other:?}"),
        )),
    }
}

fn scheduling(process: &Process) -> Result<Option<Scheduling>> {
    let Some(wanted) = &process.scheduler else {
        return Ok(None);
    };
    let policy = match wanted.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => {
            return Err(Error::invalid(
                "process.scheduler",
                format!("unknown policy {other:?}"),
            ));
        }
    };
    let mut flags = 0;
    for flag in &wanted.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => {
                return Err(Error::invalid(
                    "process.scheduler",
                    format!("unknown flag {other:?}"),
                ));
            }
        };
    }
    let refuse = |reason: &str| Err(Error::invalid("process.scheduler", reason));
    if !(-20..=19).contains(&wanted.nice) {
        return refuse("nice is not between -20 and 19");
    }
    let Ok(priority) = u32::try_from(wanted.priority) else {
        return refuse("the priority is negative");
    };
    if priority != 0 && !matches!(wanted.policy.as_str(), "SCHED_FIFO" | "SCHED_RR") {
        return refuse("a priority is for SCHED_FIFO and SCHED_RR");
    }
    let times = wanted.runtime | wanted.deadline | wanted.period;
    if times != 0 && wanted.policy != "SCHED_DEADLINE" {
        return refuse("runtime, deadline and period are for SCHED_DEADLINE");
    }
    Ok(Some(Scheduling {
        policy,
        flags,
        nice: wanted.nice,
        priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    }))
}

fn io_priority(process: &Process) -> Result<Option<(u16, u16)>> {
    let Some(wanted) = &process.io_priority else {
        return Ok(None);
    };
    let class = match wanted.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => {
            return Err(Error::invalid(
                "process.ioPriority",
                format!("unknown class {other:?}"),
            ));
        }
    };
    match u16::try_from(wanted.priority) {
        Ok(priority @ 0..=7) => Ok(Some((class, priority))),
        _ => Err(Error::invalid(
            "process.ioPriority",
            "the priority is not between 0 and 7",
        )),
    }
}

impl LimitPlan {
    /// In the child, while the host's /proc is still there.
    pub fn apply_score(&self) -> Result<()> {
        let Some(score) = self.out_of_memory_score else {
            return Ok(());
        };
        let step = "set process.oomScoreAdj";
        let procfs = Procfs::open().during(step)?;
        procfs
            .write("self/oom_score_adj", score.to_string().as_bytes())
            .during(step)
    }

    /// In the parent, of the child: a limit above the child's present one, which only the privileges of here may raise.
    /// So it fails before the program is to start, and in a user namespace it works at all.
    pub fn raise(&self, pid: u32) -> Result<()> {
        for &(number, soft, hard) in &self.resources {
            raise_resource_limit(pid, number as u32, hard)
                .during(format!("set RLIMIT_{} to {soft}:{hard}", LIMITS[number]))?;
        }
        Ok(())
    }

    /// In the child, before the change of user.
    pub fn apply(&self) -> Result<()> {
        for &(number, soft, hard) in &self.resources {
            set_resource_limit(number as u32, soft, hard)
                .during(format!("set RLIMIT_{} to {soft}:{hard}", LIMITS[number]))?;
        }
        self.schedule()
    }

    /// The part of it that may come first: how it is scheduled, and its execution domain.
    pub fn schedule(&self) -> Result<()> {
        if let Some(scheduling) = &self.scheduling {
            set_scheduling(scheduling).during("set process.scheduler")?;
        }
        if let Some((class, priority)) = self.io_priority {
            set_io_priority(class, priority).during("set process.ioPriority")?;
        }
        if let Some(domain) = self.personality {
            set_personality(domain).during("set linux.personality")?;
        }
        Ok(())
    }
}

/// Reads a list of processors, `0-3,7`.
pub(crate) fn cpu_set(field: &str, list: &str) -> Result<CpuSet> {
    let wrong = || Error::invalid(field, format!("{list:?} is no list of processors"));
    let mut set = CpuSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= CpuSet::MAX_CPU {
            return Err(wrong());
        }
        (first..=last).for_each(|cpu| set.set(cpu));
    }
    Ok(set)
}

/// Every processor that there can be.
pub(crate) fn all_cpus() -> CpuSet {
    let mut set = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu));
    set
}

/// Binds the calling thread to processors.
pub(crate) fn bind_to(set: &CpuSet) -> Result<()> {
    rustix::thread::sched_setaffinity(None, set)
        .called("sched_setaffinity")
        .during("set process.execCPUAffinity")
}

#[cfg(test)]
mod tests {
    use ketch_spec::runtime::{IoPriority, Rlimit, Scheduler};

    use ketch_spec::runtime::CpuAffinity;

    use super::*;

    #[test]
    fn wrong_limits_are_refused() {
        let limit = |kind: &str, soft, hard| Rlimit {
            kind: kind.into(),
            soft,
            hard,
        };
        let refused = |rlimits| {
            let process = Process {
                rlimits,
                ..Process::default()
            };
            plan(&process, None).unwrap_err().to_string()
        };
        assert!(refused(vec![limit("RLIMIT_FUN", 1, 1)]).contains("no such limit"));
        assert!(refused(vec![limit("RLIMIT_CORE", 2, 1)]).contains("above the hard one"));
        let twice = vec![limit("RLIMIT_CORE", 1, 1), limit("RLIMIT_CORE", 1, 1)];
        assert!(refused(twice).contains("twice"));
    }

    #[test]
    fn limits_have_the_kernel_s_numbers() {
        let rlimits = vec![Rlimit {
            kind: "RLIMIT_NOFILE".into(),
            soft: 1,
            hard: 2,
        }];
        let process = Process {
            rlimits,
            ..Process::default()
        };
        assert_eq!(plan(&process, None).unwrap().resources, [(7, 1, 2)]);
        assert_eq!(LIMITS[15], "RTTIME");
    }

    #[test]
    fn lists_of_processors_are_read() {
        let set = cpu_set("x", "0-2,7").unwrap();
        assert_eq!(
            (0..9).filter(|&cpu| set.is_set(cpu)).collect::<Vec<_>>(),
            [0, 1, 2, 7]
        );
        for wrong in ["", "a", "3-1", "0-99999"] {
            assert!(cpu_set("x", wrong).is_err(), "{wrong}");
        }
        let mut process = Process {
            exec_cpu_affinity: Some(CpuAffinity {
                last: "0".into(),
                ..CpuAffinity::default()
            }),
            ..Process::default()
        };
        plan(&process, None).unwrap();
        process.exec_cpu_affinity.get_or_insert_default().last = "0-x".into();
        let error = plan(&process, None).unwrap_err().to_string();
        assert!(error.contains("process.execCPUAffinity"), "{error}");
    }

    #[test]
    fn priorities_are_checked() {
        let io_priority = Some(IoPriority {
            class: "IOPRIO_CLASS_BE".into(),
            priority: 8,
        });
        let process = Process {
            io_priority,
            ..Process::default()
        };
        assert!(plan(&process, None).is_err());
        let scheduler = Some(Scheduler {
            policy: "SCHED_MAGIC".into(),
            ..Scheduler::default()
        });
        let process = Process {
            scheduler,
            ..Process::default()
        };
        assert!(
            plan(&process, None)
                .unwrap_err()
                .to_string()
                .contains("SCHED_MAGIC")
        );
    }
}
