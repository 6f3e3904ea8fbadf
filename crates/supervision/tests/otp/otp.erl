%% Runs scripts against OTP's own supervisor.
%%
%% One script a line on stdin, as a term; one line on stdout for each: its
%% number, then what happened, in order. Many scripts run at once, each with a
%% recorder of its own, which every worker asks before it starts and which
%% monitors it. With one scheduler (erl +S 1) the recorder hears of an end
%% before the supervisor can act on it.
-module(otp).
-behaviour(supervisor).
-export([main/0, init/1, start_sup/2, start_worker/2, start_dynamic/3, init_worker/3, log/2]).

-define(AT_ONCE, 40).
-define(PERIOD, 100).

main() ->
    ets:new(sups, [named_table, public, {read_concurrency, true}]),
    logger:remove_handler(default),
    logger:set_primary_config(level, error),
    ok = logger:add_handler(otp, ?MODULE, #{}),
    ok = io:setopts([binary]),
    read(0).

read(Running) when Running >= ?AT_ONCE ->
    receive done -> read(Running - 1) end;
read(Running) ->
    case io:get_line("") of
        eof -> finish(Running);
        Line ->
            {ok, Tokens, _} = erl_scan:string(binary_to_list(Line)),
            {ok, {Number, Tree, Events}} = erl_parse:parse_term(Tokens),
            Main = self(),
            spawn(fun() -> run(Main, Number, Tree, Events) end),
            read(Running + 1)
    end.

finish(0) -> halt(0);
finish(Running) -> receive done -> finish(Running - 1) end.

run(Main, Number, Tree, Events) ->
    process_flag(trap_exit, true),
    Recorder = spawn_link(fun() -> record(#{}, #{}, []) end),
    case start_sup(Recorder, Tree) of
        {ok, Root} ->
            put(root, Root),
            note(Recorder, settle(Root)),
            [step(Recorder, Root, Event) || Event <- Events],
            stop(Root);
        {error, _} -> note(Recorder, "not started")
    end,
    Lines = ask(Recorder, lines),
    io:put_chars([integer_to_list(Number), $\t, lists:join($;, Lines), $\n]),
    Main ! done.

stop(Root) ->
    Monitor = monitor(process, Root),
    exit(Root, shutdown),
    receive {'DOWN', Monitor, process, Root, _} -> ok end.

step(Recorder, Root, Event) ->
    case event(Recorder, Event) of
        noted -> ok;
        Result -> note(Recorder, ["> ", Result])
    end,
    note(Recorder, settle(Root)).

%% ---- events

event(Recorder, {exit, Id, How}) ->
    case ask(Recorder, {pid, Id}) of
        undefined -> "nop";
        Pid ->
            note(Recorder, "> exit"),
            Monitor = monitor(process, Pid),
            case How of
                kill -> exit(Pid, kill);
                _ -> Pid ! {leave, reason(How)}
            end,
            receive {'DOWN', Monitor, process, Pid, _} -> noted end
    end;
event(_, {advance, Seconds}) ->
    Root = get(root),
    [shift(Pid, Seconds) || {Pid, _, _, R} <- ets:tab2list(sups), R =:= Root, is_process_alive(Pid)],
    "advance";
event(Recorder, {Call, Sup, Arg}) ->
    case ask(Recorder, {pid, Sup}) of
        undefined -> "down";
        Pid -> try call(Recorder, Call, Pid, Arg) catch exit:_ -> "down" end
    end.

%% OTP reads the clock itself, so time passes by making its memory older.
shift(Sup, Seconds) ->
    sys:replace_state(Sup, fun(State) ->
        state = element(1, State),
        setelement(8, State, [Time - Seconds || Time <- element(8, State)])
    end).

reason(normal) -> normal;
reason(shutdown) -> shutdown;
reason(shutdown_why) -> {shutdown, why};
reason(crash) -> crash.

call(_, start, Sup, {dynamic, Id, Fails}) -> result(supervisor:start_child(Sup, [{Id, Fails}]));
call(Recorder, start, Sup, Spec) -> result(supervisor:start_child(Sup, spec(Recorder, Spec)));
call(_, terminate, Sup, Id) -> result(supervisor:terminate_child(Sup, Id));
call(Recorder, terminate_dynamic, Sup, Id) ->
    case ask(Recorder, {pid, Id}) of
        undefined -> "not_found";
        Pid -> result(supervisor:terminate_child(Sup, Pid))
    end;
call(_, restart, Sup, Id) -> result(supervisor:restart_child(Sup, Id));
call(_, delete, Sup, Id) -> result(supervisor:delete_child(Sup, Id));
call(_, count, Sup, Keys) ->
    Counts = supervisor:count_children(Sup),
    [[atom_to_list(Key), $=, integer_to_list(proplists:get_value(Key, Counts)), $ ] || Key <- Keys];
call(_, spec, Sup, Id) ->
    case supervisor:get_childspec(Sup, Id) of
        {ok, #{restart := R, shutdown := S, type := T, significant := G}} ->
            io_lib:format("~w ~w ~w ~w", [R, S, T, G]);
        {error, not_found} -> "not_found"
    end.

result(ok) -> "ok";
result({ok, _}) -> "ok";
result({error, {already_started, _}}) -> "already_started";
result({error, already_present}) -> "already_present";
result({error, {bad_combination, _}}) -> "invalid";
result({error, simple_one_for_one}) -> "dynamic";
result({error, Known}) when Known =:= not_found; Known =:= running; Known =:= restarting ->
    atom_to_list(Known);
result({error, _}) -> "failed".

%% ---- the tree, when nothing happens in it any more

settle(Root) ->
    case is_process_alive(Root) of
        false -> "= down";
        true ->
            try ["= ", walk(Root)]
            catch _:_ -> timer:sleep(1), settle(Root)
            end
    end.

walk(Sup) ->
    [{_, _, Strategy, _}] = ets:lookup(sups, Sup),
    Children = lists:reverse(supervisor:which_children(Sup)),
    Views = [view(Child) || Child <- Children],
    case Strategy of
        dynamic -> lists:join($ , lists:sort([lists:flatten(View) || View <- Views]));
        _ -> lists:join($ , Views)
    end.

view({Id, undefined, Type, _}) -> [atom_to_list(Id), "-", letter(Type)];
view({Id, Pid, Type, _}) when is_pid(Pid) ->
    true = is_process_alive(Pid),
    case Type of
        supervisor -> [atom_to_list(Id), "+s[", walk(Pid), "]"];
        worker -> [name(Id, Pid), "+w"]
    end.

letter(worker) -> "w";
letter(supervisor) -> "s".

name(undefined, Pid) -> [{_, Id}] = ets:lookup(sups, {id, Pid}), atom_to_list(Id);
name(Id, _) -> atom_to_list(Id).

%% ---- supervisors

start_sup(Recorder, {sup, Id, _, _, _, _, _, _, _} = Spec) ->
    case supervisor:start_link(?MODULE, {Recorder, Spec, get_root()}) of
        {ok, Pid} -> ok = ask(Recorder, {up, Id, Pid}), {ok, Pid};
        Error -> Error
    end.

get_root() -> get(root).

init({Recorder, {sup, Id, Strategy, Intensity, Auto, _, _, _, Children}, Root0}) ->
    Root = case Root0 of undefined -> self(); _ -> Root0 end,
    put(root, Root),
    ets:insert(sups, {self(), {Recorder, Id}, Strategy, Root}),
    Flags = #{intensity => Intensity, period => ?PERIOD, auto_shutdown => Auto},
    case Strategy of
        dynamic ->
            [Template] = Children,
            {ok, {Flags#{strategy => simple_one_for_one}, [template(Recorder, Template)]}};
        _ -> {ok, {Flags#{strategy => Strategy}, [spec(Recorder, Child) || Child <- Children]}}
    end.

spec(Recorder, {sup, Id, _, _, _, Restart, Shutdown, Significant, _} = Spec) ->
    #{id => Id, start => {?MODULE, start_sup, [Recorder, Spec]}, restart => Restart,
      shutdown => Shutdown, significant => Significant, type => supervisor};
spec(Recorder, {worker, Id, Restart, Shutdown, Significant, _, _} = Spec) ->
    #{id => Id, start => {?MODULE, start_worker, [Recorder, Spec]}, restart => Restart,
      shutdown => Shutdown, significant => Significant}.

template(Recorder, {worker, Id, Restart, Shutdown, Significant, OnStop, _}) ->
    #{id => Id, start => {?MODULE, start_dynamic, [Recorder, OnStop]}, restart => Restart,
      shutdown => Shutdown, significant => Significant}.

%% ---- workers

start_dynamic(Recorder, OnStop, {Id, Fails}) ->
    start_worker(Recorder, {worker, Id, any, any, any, OnStop, Fails}).

start_worker(Recorder, Spec) ->
    proc_lib:start_link(?MODULE, init_worker, [Recorder, Spec, self()]).

init_worker(Recorder, {worker, Id, _, _, _, OnStop, Fails}, Parent) ->
    process_flag(trap_exit, true),
    ets:insert(sups, {{id, self()}, Id}),
    case ask(Recorder, {start, Id, Fails}) of
        ok ->
            proc_lib:init_ack(Parent, {ok, self()}),
            work(Parent, OnStop);
        fails ->
            unlink(Parent),
            proc_lib:init_ack(Parent, {error, told_to_fail})
    end.

work(Parent, OnStop) ->
    receive
        {leave, Reason} -> exit(Reason);
        {'EXIT', Parent, Reason} ->
            case OnStop of
                prompt -> exit(Reason);
                crash -> exit(crash);
                stubborn -> work(Parent, OnStop)
            end
    end.

%% ---- the recorder

record(Pids, Starts, Lines) ->
    receive
        {ask, From, Ref, {start, Id, Fails}} ->
            Pid = From,
            Count = maps:get(Id, Starts, 0) + 1,
            Counted = Starts#{Id => Count},
            case lists:member(Count, Fails) of
                true ->
                    From ! {Ref, fails},
                    record(Pids, Counted, [["fail ", atom_to_list(Id)] | Lines]);
                false ->
                    monitor(process, Pid),
                    From ! {Ref, ok},
                    record(Pids#{Id => Pid, Pid => Id}, Counted, [["start ", atom_to_list(Id)] | Lines])
            end;
        {ask, From, Ref, {up, Id, Pid}} ->
            From ! {Ref, ok},
            record(Pids#{Id => Pid}, Starts, [["up ", atom_to_list(Id)] | Lines]);
        {ask, From, Ref, {pid, Id}} ->
            Pid = maps:get(Id, Pids, undefined),
            IsAlive = Pid =/= undefined andalso is_process_alive(Pid),
            From ! {Ref, case IsAlive of true -> Pid; false -> undefined end},
            record(Pids, Starts, Lines);
        {ask, From, Ref, lines} ->
            From ! {Ref, lists:reverse(Lines)};
        {ask, From, Ref, {note, Line}} ->
            From ! {Ref, ok},
            record(Pids, Starts, [Line | Lines]);
        {'DOWN', _, process, Pid, _} ->
            Id = maps:get(Pid, Pids),
            record(maps:remove(Pid, Pids), Starts, [["stop ", atom_to_list(Id)] | Lines])
    end.

note(Recorder, Line) -> ok = ask(Recorder, {note, Line}).

ask(Recorder, Question) ->
    Ref = make_ref(),
    Recorder ! {ask, self(), Ref, Question},
    receive {Ref, Answer} -> Answer end.

%% ---- supervisor reports; called in the supervisor's own process

log(#{msg := {report, #{label := {supervisor, Context}, report := Report}}, meta := #{pid := Sup}}, _) ->
    case ets:lookup(sups, Sup) of
        [{_, {Recorder, Id}, _, _}] ->
            Offender = offender(proplists:get_value(offender, Report)),
            Reason = class(proplists:get_value(reason, Report)),
            note(Recorder, case Context of
                shutdown -> ["report shutdown ", atom_to_list(Id), " ", Offender];
                start_error -> ["report start_error ", Offender];
                _ -> ["report ", atom_to_list(Context), " ", Offender, " ", Reason]
            end);
        [] -> ok
    end;
log(_, _) -> ok.

offender(Offender) ->
    case proplists:get_value(id, Offender) of
        template ->
            Pid = case proplists:get_value(pid, Offender) of {restarting, P} -> P; P -> P end,
            case ets:lookup(sups, {id, Pid}) of [{_, Id}] -> atom_to_list(Id); [] -> "?" end;
        Id -> atom_to_list(Id)
    end.

class(normal) -> "normal";
class(shutdown) -> "shutdown";
class({shutdown, _}) -> "shutdown";
class(killed) -> "killed";
class(_) -> "other".
