//! Items and events of tools that the server runs itself. Several calls may run at a time, so none of them is the open item.

use serde::Serialize;
use serde_json::json;

use super::{
    events::{At, OfDelta, OfItem},
    stream::Assembler,
    types::{Item, ItemStatus, McpApprovalRequest, McpCall, McpListTools},
};
use crate::{CallApproval, ListedTool, ServerCallNews};

/// A call under way.
#[derive(Debug)]
pub(super) enum Running {
    /// It is this item of the output.
    Item(usize),
    /// The client will be asked, once its arguments are whole.
    Asked(McpApprovalRequest),
}

/// All arguments of a call.
#[derive(Serialize)]
struct OfMcpArguments<'a> {
    #[serde(flatten)]
    at: At<'a>,
    arguments: &'a str,
}

impl Assembler {
    /// Takes news of the server's own calls.
    pub(super) fn server_call(&mut self, news: ServerCallNews) {
        self.close(ItemStatus::Completed);
        self.held.clear();
        match news {
            ServerCallNews::Listed { server, tools } => self.list_tools(server, &tools),
            ServerCallNews::Begin { index, server, own_name, approval, .. } => {
                self.begin_call(index, server, own_name, approval);
            }
            ServerCallNews::Arguments { index, delta } => self.call_arguments(index, &delta),
            ServerCallNews::Complete { index } => self.complete_call(index),
            ServerCallNews::Result { index, output, is_error } => self.call_result(index, output, is_error),
        }
    }

    /// Ends the calls that came to no result.
    pub(super) fn close_server_calls(&mut self) {
        let mut open: Vec<usize> = self
            .server_calls
            .drain()
            .filter_map(|(_, call)| match call {
                Running::Item(at) => Some(at),
                Running::Asked(_) => None,
            })
            .collect();
        open.sort_unstable();
        for output_index in open {
            if let Some(Item::McpCall(call)) = self.response.output.get_mut(output_index) {
                call.status = ItemStatus::Incomplete;
            }
            self.item_done(output_index);
        }
    }

    fn list_tools(&mut self, server_label: String, tools: &[ListedTool]) {
        let output_index = self.response.output.len();
        let id = self.id.output("mcpl", output_index);
        let list = McpListTools { id: id.clone(), server_label, tools: Vec::new(), error: None };
        self.add_item(Item::McpListTools(list.clone()));
        self.events.add("response.mcp_list_tools.in_progress", &At::item(&id, output_index));
        let tool = |tool: &ListedTool| {
            json!({
                "name": tool.name, "description": tool.description, "input_schema": tool.parameters,
                "annotations": null,
            })
        };
        let tools = tools.iter().map(tool).collect();
        self.response.output[output_index] = Item::McpListTools(McpListTools { tools, ..list });
        self.events.add("response.mcp_list_tools.completed", &At::item(&id, output_index));
        self.item_done(output_index);
    }

    fn begin_call(&mut self, index: usize, server_label: String, name: String, approval: CallApproval) {
        let output_index = self.response.output.len();
        let approval_request_id = match approval {
            CallApproval::Wanted => {
                let (id, arguments) = (String::new(), String::new());
                let request = McpApprovalRequest { id, server_label, name, arguments };
                self.server_calls.insert(index, Running::Asked(request));
                return;
            }
            CallApproval::Given(id) => Some(id),
            CallApproval::NotNeeded => None,
        };
        let id = self.id.output("mcp", output_index);
        self.add_item(Item::McpCall(McpCall {
            id: id.clone(),
            status: ItemStatus::InProgress,
            server_label,
            name,
            arguments: String::new(),
            output: None,
            error: None,
            approval_request_id,
        }));
        self.server_calls.insert(index, Running::Item(output_index));
        self.events.add("response.mcp_call.in_progress", &At::item(&id, output_index));
    }

    fn call_arguments(&mut self, index: usize, delta: &str) {
        match self.server_calls.get_mut(&index) {
            Some(Running::Asked(request)) => request.arguments.push_str(delta),
            Some(Running::Item(at)) => {
                if let Some(Item::McpCall(call)) = self.response.output.get_mut(*at) {
                    call.arguments.push_str(delta);
                    let of = OfDelta { at: At::item(&call.id, *at), delta, logprobs: None };
                    self.events.add("response.mcp_call_arguments.delta", &of);
                }
            }
            None => {}
        }
    }

    /// Its arguments are whole: a call that waits for the client becomes an item now.
    fn complete_call(&mut self, index: usize) {
        match self.server_calls.get(&index) {
            Some(Running::Item(at)) => {
                if let Some(Item::McpCall(call)) = self.response.output.get(*at) {
                    let of = OfMcpArguments { at: At::item(&call.id, *at), arguments: &call.arguments };
                    self.events.add("response.mcp_call_arguments.done", &of);
                }
            }
            Some(Running::Asked(request)) => {
                let output_index = self.response.output.len();
                let request =
                    McpApprovalRequest { id: self.id.output("mcpr", output_index), ..request.clone() };
                self.add_item(Item::McpApprovalRequest(request));
                self.item_done(output_index);
                self.server_calls.remove(&index);
            }
            None => {}
        }
    }

    fn call_result(&mut self, index: usize, output: String, is_error: bool) {
        let Some(Running::Item(at)) = self.server_calls.remove(&index) else { return };
        let Some(Item::McpCall(call)) = self.response.output.get_mut(at) else { return };
        let event = if is_error {
            (call.status, call.error) = (ItemStatus::Failed, Some(output));
            "response.mcp_call.failed"
        } else {
            (call.status, call.output) = (ItemStatus::Completed, Some(output));
            "response.mcp_call.completed"
        };
        self.events.add(event, &At::item(&call.id, at));
        self.item_done(at);
    }

    fn add_item(&mut self, item: Item) {
        let output_index = self.response.output.len();
        self.events.add("response.output_item.added", &OfItem { output_index, item: &item });
        self.response.output.push(item);
    }

    fn item_done(&mut self, output_index: usize) {
        if let Some(item) = self.response.output.get(output_index) {
            self.events.add("response.output_item.done", &OfItem { output_index, item });
        }
    }
}
