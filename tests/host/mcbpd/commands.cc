#include "commands.h"

#include <array>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "coarse_clock.h"
#include "version.h"

namespace mcbpd {
namespace {

using mcbp::Header;
using mcbp::Opcode;

struct Reply {
    Status status = Status::ok;
    uint64_t cas = 0;
    std::string_view key;
    std::string text;
    ItemPtr item;  // its flags and its value come instead of the text
    bool later = false;
};

// When a request gets no response.
enum class Quiet { never, on_success, on_miss };
enum class Need { none, some, any };

struct Command {
    Opcode opcode;
    Reply (*run)(const Request&, Session&);
    uint8_t extras_bytes;
    Need key;
    Need value;
    Quiet quiet = Quiet::never;
};

constexpr size_t kFlagsBytes = 4;

std::string_view describe(Status status) {
    switch (status) {
        case Status::ok:
            return {};
        case Status::not_found:
            return "Not found";
        case Status::exists:
            return "Data exists for key";
        case Status::too_large:
            return "Too large";
        case Status::invalid:
            return "Invalid arguments";
        case Status::not_stored:
            return "Not stored";
        case Status::not_a_number:
            return "Non-numeric server-side value for incr or decr";
        case Status::unknown_command:
            return "Unknown command";
        case Status::out_of_memory:
            return "Out of memory";
    }
    return {};
}

Reply failed(Status status) {
    Reply reply;
    reply.status = status;
    reply.text = describe(status);
    return reply;
}

Reply stored(const Store::Stored& result) {
    Reply reply = failed(result.status);
    reply.cas = result.cas;
    return reply;
}

// Header, extras and key are one piece; the value is the other.
void send(const Request& request, Reply reply, Session& session) {
    const std::string_view value = reply.item ? reply.item->value() : reply.text;
    const size_t extras_bytes = reply.item ? kFlagsBytes : 0;
    Header header;
    header.magic = mcbp::Magic::response;
    header.opcode = request.opcode;
    header.key_bytes = static_cast<uint16_t>(reply.key.size());
    header.extras_bytes = static_cast<uint8_t>(extras_bytes);
    header.status = reply.status;
    header.body_bytes = static_cast<uint32_t>(extras_bytes + reply.key.size() + value.size());
    header.opaque = request.opaque;
    header.cas = reply.cas;

    std::array<char, mcbp::kHeaderBytes + kFlagsBytes + mcbp::kMaxKeyBytes> head;
    header.store(head.data());
    if (reply.item) {
        mcbp::store32(head.data() + mcbp::kHeaderBytes, reply.item->flags());
    }
    const size_t before_key = mcbp::kHeaderBytes + extras_bytes;
    reply.key.copy(head.data() + before_key, mcbp::kMaxKeyBytes);
    session.output->respond({head.data(), before_key + reply.key.size()}, value,
                            std::move(reply.item));
    session.counters.add(Count::responses);
}

Reply found(ItemPtr item) {
    if (!item) {
        return failed(Status::not_found);
    }
    Reply reply;
    reply.cas = item->cas();
    reply.item = std::move(item);
    return reply;
}

Reply with_key(Reply reply, std::string_view key) {
    if (reply.item) {
        reply.key = key;
    }
    return reply;
}

Reply get(const Request& request, Session& session) {
    return found(session.store.get(request.key));
}

Reply getk(const Request& request, Session& session) {
    return with_key(get(request, session), request.key);
}

Reply gat(const Request& request, Session& session) {
    return found(session.store.get(request.key, mcbp::load32(request.extras.data())));
}

Reply gatk(const Request& request, Session& session) {
    return with_key(gat(request, session), request.key);
}

Reply touch(const Request& request, Session& session) {
    Reply reply = gat(request, session);
    reply.item = {};
    return reply;
}

template <Store::Mode mode>
Reply put(const Request& request, Session& session) {
    const char* extras = request.extras.data();
    return stored(session.store.put(mode, request.key, request.value, mcbp::load32(extras),
                                    mcbp::load32(extras + 4), request.cas));
}

template <Store::Side side>
Reply extend(const Request& request, Session& session) {
    return stored(session.store.extend(side, request.key, request.value, request.cas));
}

template <Store::Direction direction>
Reply count(const Request& request, Session& session) {
    const char* extras = request.extras.data();
    const Store::Delta delta = {direction, mcbp::load64(extras), mcbp::load64(extras + 8),
                                mcbp::load32(extras + 16)};
    const auto counted = session.store.count(request.key, delta, request.cas);
    Reply reply = stored({counted.status, counted.cas});
    if (counted.status == Status::ok) {
        reply.text.resize(sizeof counted.value);
        mcbp::store64(reply.text.data(), counted.value);
    }
    return reply;
}

Reply del(const Request& request, Session& session) {
    return failed(session.store.remove(request.key, request.cas));
}

Reply flush(const Request& request, Session& session) {
    session.store.flush(request.extras.empty() ? 0 : mcbp::load32(request.extras.data()));
    return {};
}

Reply noop(const Request& /*request*/, Session& /*session*/) {
    return {};
}

Reply quit(const Request& /*request*/, Session& session) {
    session.quit = true;
    return {};
}

Reply version(const Request& /*request*/, Session& /*session*/) {
    Reply reply;
    reply.text = kVersion;
    return reply;
}

// To be answered, by that call, when other threads are done with what the session waits for.
Reply answered_later(std::shared_ptr<const void> waits_for, std::function<void(Session&)> answer,
                     Session& session) {
    session.waits_for = std::move(waits_for);
    session.answer = std::move(answer);
    Reply reply;
    reply.later = true;
    return reply;
}

// As much of it as outlives the input, and as the head of its response needs.
Request without_body(const Request& request) {
    return {request.opcode, request.opaque, request.cas, {}, {}, {}};
}

// One response for each; the one without key and value, which ends them, is yet to be sent.
void send_stats(const Request& request, const StatList& stats, Session& session) {
    for (const auto& [name, text] : stats) {
        Reply reply;
        reply.key = name;
        reply.text = text;
        send(request, std::move(reply), session);
    }
}

Reply stat_connections(const Request& request, Session& session) {
    const RosterPtr roster = session.rosters.begin();
    const auto answer = [request = without_body(request), roster](Session& asker) {
        send_stats(request, roster->connections, asker);
        send(request, {}, asker);
    };
    return answered_later(roster, answer, session);
}

Reply stat(const Request& request, Session& session) {
    if (request.key == "connections") {
        return stat_connections(request, session);
    }
    if (!request.key.empty()) {
        return failed(Status::not_found);
    }
    send_stats(request, session.statistics.stats(), session);
    return {};
}

Reply output(const Request& request, Session& session) {
    OutputPath* path = session.paths.find(request.key);
    if (path == nullptr) {
        return failed(Status::not_found);
    }
    if (!session.paths.may_change()) {
        return failed(Status::invalid);
    }
    session.next_path = path;
    return {};
}

Reply delete_bucket(const Request& request, Session& session) {
    const TeardownPtr teardown = session.teardowns.begin();
    const auto answer = [request = without_body(request), teardown](Session& asker) {
        Reply reply;
        reply.text = "{\"items_in_transit\": " + std::to_string(teardown->items_in_transit) +
                     ", \"connections_dropped\": " + std::to_string(teardown->connections_dropped) +
                     "}";
        send(request, std::move(reply), asker);
    };
    return answered_later(teardown, answer, session);
}

Reply ack(const Request& /*request*/, Session& session) {
    session.counters.add(Count::acks);
    return {};
}

Reply subscribe(const Request& /*request*/, Session& session) {
    session.subscribed = true;
    return {};
}

Reply publish(const Request& request, Session& session) {
    session.pushes.push(std::string(request.value));
    return {};
}

Reply jump(const Request& request, Session& session) {
    if (!session.clock_jumps) {
        return failed(Status::unknown_command);
    }
    const std::chrono::nanoseconds by = std::chrono::seconds(mcbp::load32(request.extras.data()));
    CoarseClock::jumped.fetch_add(by.count(), std::memory_order_relaxed);
    return {};
}

constexpr auto kSet = put<Store::Mode::set>;
constexpr auto kAdd = put<Store::Mode::add>;
constexpr auto kReplace = put<Store::Mode::replace>;
constexpr auto kAppend = extend<Store::Side::back>;
constexpr auto kPrepend = extend<Store::Side::front>;
constexpr auto kIncrement = count<Store::Direction::up>;
constexpr auto kDecrement = count<Store::Direction::down>;

constexpr std::array kCommands = {
    Command{Opcode::get, get, 0, Need::some, Need::none},
    Command{Opcode::getq, get, 0, Need::some, Need::none, Quiet::on_miss},
    Command{Opcode::getk, getk, 0, Need::some, Need::none},
    Command{Opcode::getkq, getk, 0, Need::some, Need::none, Quiet::on_miss},
    Command{Opcode::gat, gat, 4, Need::some, Need::none},
    Command{Opcode::gatq, gat, 4, Need::some, Need::none, Quiet::on_miss},
    Command{Opcode::gatk, gatk, 4, Need::some, Need::none},
    Command{Opcode::gatkq, gatk, 4, Need::some, Need::none, Quiet::on_miss},
    Command{Opcode::touch, touch, 4, Need::some, Need::none},
    Command{Opcode::set, kSet, 8, Need::some, Need::any},
    Command{Opcode::setq, kSet, 8, Need::some, Need::any, Quiet::on_success},
    Command{Opcode::add, kAdd, 8, Need::some, Need::any},
    Command{Opcode::addq, kAdd, 8, Need::some, Need::any, Quiet::on_success},
    Command{Opcode::replace, kReplace, 8, Need::some, Need::any},
    Command{Opcode::replaceq, kReplace, 8, Need::some, Need::any, Quiet::on_success},
    Command{Opcode::append, kAppend, 0, Need::some, Need::any},
    Command{Opcode::appendq, kAppend, 0, Need::some, Need::any, Quiet::on_success},
    Command{Opcode::prepend, kPrepend, 0, Need::some, Need::any},
    Command{Opcode::prependq, kPrepend, 0, Need::some, Need::any, Quiet::on_success},
    Command{Opcode::increment, kIncrement, 20, Need::some, Need::none},
    Command{Opcode::incrementq, kIncrement, 20, Need::some, Need::none, Quiet::on_success},
    Command{Opcode::decrement, kDecrement, 20, Need::some, Need::none},
    Command{Opcode::decrementq, kDecrement, 20, Need::some, Need::none, Quiet::on_success},
    Command{Opcode::del, del, 0, Need::some, Need::none},
    Command{Opcode::delq, del, 0, Need::some, Need::none, Quiet::on_success},
    Command{Opcode::flush, flush, 4, Need::none, Need::none},
    Command{Opcode::flushq, flush, 4, Need::none, Need::none, Quiet::on_success},
    Command{Opcode::noop, noop, 0, Need::none, Need::none},
    Command{Opcode::version, version, 0, Need::none, Need::none},
    Command{Opcode::verbosity, noop, 4, Need::none, Need::none},
    Command{Opcode::stat, stat, 0, Need::any, Need::none},
    Command{Opcode::quit, quit, 0, Need::none, Need::none},
    Command{Opcode::quitq, quit, 0, Need::none, Need::none, Quiet::on_success},
    Command{Opcode::output, output, 0, Need::some, Need::none},
    Command{Opcode::delete_bucket, delete_bucket, 0, Need::none, Need::none},
    Command{Opcode::jump, jump, 4, Need::none, Need::none},
    Command{Opcode::subscribe, subscribe, 0, Need::none, Need::none},
    Command{Opcode::publish, publish, 0, Need::none, Need::some},
    Command{Opcode::ack, ack, 0, Need::none, Need::none, Quiet::on_success},
};

constexpr size_t kOpcodes = 256;

constexpr auto kCommandOf = [] {
    std::array<const Command*, kOpcodes> table{};
    for (const Command& command : kCommands) {
        table[static_cast<size_t>(command.opcode)] = &command;
    }
    return table;
}();

bool meets(Need need, std::string_view part) {
    return need == Need::any || (need == Need::some) == !part.empty();
}

bool is_well_formed(const Command& command, const Request& request) {
    // A flush of everything at once may leave its exptime out.
    const bool may_lack_extras = command.run == flush;
    const bool extras = request.extras.size() == command.extras_bytes ||
                        (may_lack_extras && request.extras.empty());
    return extras && request.key.size() <= mcbp::kMaxKeyBytes && meets(command.key, request.key) &&
           meets(command.value, request.value);
}

bool is_silent(Quiet quiet, Status status) {
    switch (quiet) {
        case Quiet::never:
            return false;
        case Quiet::on_success:
            return status == Status::ok;
        case Quiet::on_miss:
            return status == Status::not_found;
    }
    return false;
}

}  // namespace

bool is_acknowledgement(const Header& header) {
    // One with a body is refused, which is an answer.
    return header.magic == mcbp::Magic::request && header.opcode == Opcode::ack &&
           header.body_bytes == 0 && header.key_bytes == 0 && header.extras_bytes == 0;
}

void execute(const Request& request, Session& session) {
    const Command* command = kCommandOf[static_cast<size_t>(request.opcode)];
    if (command == nullptr) {
        refuse(request, Status::unknown_command, session);
        return;
    }
    if (!is_well_formed(*command, request)) {
        refuse(request, Status::invalid, session);
        return;
    }
    Reply reply = command->run(request, session);
    if (!reply.later && !is_silent(command->quiet, reply.status)) {
        send(request, std::move(reply), session);
    }
}

void refuse(const Request& request, Status status, Session& session) {
    send(request, failed(status), session);
}

void push(std::string_view text, Session& session) {
    Request unasked{};
    unasked.opcode = Opcode::push;
    Reply reply;
    reply.text = text;
    send(unasked, std::move(reply), session);
}

void answer_late(Session& session) {
    session.waits_for = nullptr;
    std::exchange(session.answer, nullptr)(session);
}

}  // namespace mcbpd
