//! Operations that a graph from elsewhere may not run: a graph is a program.

use std::collections::HashSet;

use super::GraphFile;
use super::proto::NodeDef;
use crate::Result;

/// Operations that touch files, processes, Python, the network, other machines, or state that outlives a run.
#[rustfmt::skip]
const DENIED: &[&str] = &[
    "Abort", "Batch", "BatchFunction", "CloseSummaryWriter", "DebugIdentity", "DebugIdentityV2",
    "DebugIdentityV3", "DeleteSessionTensor", "EagerPyFunc", "FileSystemSetConfiguration",
    "GetSessionHandle", "GetSessionHandleV2", "GetSessionTensor", "ImmutableConst", "ImportEvent", "InfeedEnqueue",
    "InitializeTableFromTextFile", "InitializeTableFromTextFileV2", "MatchingFiles", "MergeV2Checkpoints",
    "OutfeedDequeue", "Print", "PrintV2", "ReadFile", "RemoteCall", "RemoteFusedGraphExecute", "Rpc",
    "RpcCall", "RpcClient", "RpcServer", "ShardedFilename", "ShardedFilespec", "Stack", "StackV2",
    "SymbolicGradient", "TryRpc", "WriteFile", "_HostRecv", "_HostSend", "_Recv", "_Send",
];

/// Families of operations, by the start of their name.
const DENIED_STARTS: &[&str] = &[
    "BigQuery",
    "Collective",
    "Dataset",
    "GcsConfigure",
    "Iterator",
    "Nccl",
    "Py",
    "Save",
    "Restore",
    "TPU",
    "Xla",
];

/// Families of operations, by a part of their name: queues, readers, data sets, barriers, and stages, which keep what a run was fed.
const DENIED_PARTS: &[&str] =
    &["Queue", "Reader", "Dataset", "Barrier", "Summary", "Checkpoint", "Mutex", "Accumulator", "Stage"];

/// What operations are to run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Run,
    /// The same, where variables were filled before.
    RunFilled,
    /// To fill tables, once; which files those are read from is checked elsewhere.
    Initialise,
}

/// Refuses the first operation that may not run, in `nodes` of a graph or in a function that they call.
pub(super) fn check(nodes: &[NodeDef], whole: &GraphFile, purpose: Purpose) -> Result<()> {
    let mut entered = HashSet::new();
    let mut open: Vec<(&[NodeDef], Option<&str>)> = vec![(nodes, None)];
    while let Some((nodes, inside)) = open.pop() {
        for node in nodes {
            let place = || {
                let function =
                    inside.map(|function| format!(" in the function {function}")).unwrap_or_default();
                format!("{} (node {}{function})", node.op, node.name)
            };
            let unsafe_op = if whole.allows_unsafe_ops { None } else { unsafe_op(node, purpose) };
            if let Some(why) = unsafe_op.or_else(|| refusal(node, purpose)) {
                return Err(whole.refused(&format!("its graph runs {}, {why}", place())));
            }
            let mut called = node.functions().ok_or_else(|| {
                whole.refused(&format!("its graph has unreadable attributes at {}", place()))
            })?;
            called.push(node.op.clone());
            for name in called {
                if let Some(function) = whole.functions.get(&name)
                    && entered.insert(function.name.as_str())
                {
                    open.push((&function.nodes, Some(&function.name)));
                }
            }
        }
    }
    Ok(())
}

/// Why an operation reaches beyond its graph.
fn unsafe_op(node: &NodeDef, purpose: Purpose) -> Option<&'static str> {
    let op = node.op.as_str();
    if purpose == Purpose::Initialise && op.starts_with("InitializeTableFromTextFile") {
        return None;
    }
    let denied = DENIED.contains(&op)
        || DENIED_STARTS.iter().any(|start| op.starts_with(start))
        || DENIED_PARTS.iter().any(|part| op.contains(part));
    denied.then_some(
        "which is not allowed: it reaches beyond the graph (files, processes, Python, network or queues); set \
         allowUnsafeOps where you trust it",
    )
}

/// Why an operation cannot run, whoever trusts it.
fn refusal(node: &NodeDef, purpose: Purpose) -> Option<&'static str> {
    let op = node.op.as_str();
    if op == "DepthwiseConv2dNative" && node.text("padding").is_none_or(|padding| padding == "EXPLICIT") {
        return Some(
            "with EXPLICIT padding, which makes TensorFlow end the process: export it with a Pad before it",
        );
    }
    if purpose != Purpose::Run {
        return None;
    }
    if op.starts_with("Variable") || op == "VarHandleOp" || op == "ReadVariableOp" {
        return Some("which needs variables: freeze the graph (variables to constants) when exporting");
    }
    None
}
