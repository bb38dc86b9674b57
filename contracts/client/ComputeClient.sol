// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeBridge, IComputeCallback} from "../interfaces/IComputeBridge.sol";

/// @title ComputeClient
/// @notice The base of a dApp that orders jobs and is called back. A dApp says what to run (`_newOrder`, `_request`) and
///         what to do with the answer (`_onResult`); who may order, and who may draw refunds, is its own business.
/// @dev Nothing is stored: the bridge knows whose request an id is.
abstract contract ComputeClient is IComputeCallback {
    IComputeBridge private immutable _BRIDGE;

    /// @notice Emitted for the result of a request that somebody else ordered with this contract as its callback.
    event ForeignResultIgnored(uint256 indexed id);

    error ComputeClientInvalidBridge(address bridge);
    error ComputeClientNotBridge(address caller);
    /// @notice Without a curator any node, its operator a stranger, can sign any result and take the price.
    error ComputeClientNoCurator();

    /// @param bridge_ the ComputeBridge; its code is final, so is the choice
    constructor(address bridge_) {
        if (bridge_.code.length == 0) revert ComputeClientInvalidBridge(bridge_);
        _BRIDGE = IComputeBridge(bridge_);
    }

    /// @inheritdoc IComputeCallback
    /// @dev Only the bridge is believed, and of it only results of requests that this contract made.
    function onJobResult(uint256 id, bytes32 requestHash, IComputeBridge.Outcome calldata outcome) external {
        if (msg.sender != address(_BRIDGE)) revert ComputeClientNotBridge(msg.sender);
        (address requester,,,,) = _BRIDGE.requestOf(id);
        if (requester != address(this)) {
            emit ForeignResultIgnored(id);
            return;
        }
        _onResult(id, requestHash, outcome);
    }

    /// @notice The bridge that this contract orders from and is called back by.
    function computeBridge() public view returns (IComputeBridge) {
        return _BRIDGE;
    }

    /// @dev What the dApp does with an outcome, once per request: money and state at the bridge are final. Read
    ///      `outcome.status` first (1 is success). When this reverts, the result stays and anyone may try it again with
    ///      more gas (`retryCallback` of the bridge).
    function _onResult(uint256 id, bytes32 requestHash, IComputeBridge.Outcome calldata outcome) internal virtual;

    /// @dev The gas of a callback, at the prices of the chain that the dApp is for: measure it there.
    function _callbackGas() internal view virtual returns (uint64) {
        return 500_000;
    }

    /// @dev Whether an order may do without a curator. Overriding it is for jobs whose result moves nothing of value.
    function _acceptsAnyNode() internal view virtual returns (bool) {
        return false;
    }

    /// @dev An order with safe defaults, to be changed before `_request`: the spec is inline insula/v1, one node that
    ///      `curator` admitted, an hour, the result is a CID, a run that fails and the delivery are not paid (nodes and
    ///      bridges may ask for more: `insula job explain` names their minimums).
    function _newOrder(bytes memory spec, address curator, uint128 unitPrice)
        internal
        view
        returns (IComputeBridge.Order memory order)
    {
        order.version = 1;
        order.dialect = 1;
        order.spec = spec;
        order.nodes = 1;
        order.quorum = 1;
        order.ttl = 1 hours;
        order.callback = address(this);
        order.callbackGas = _callbackGas();
        order.curator = curator;
        order.unitPrice = unitPrice;
    }

    /// @dev What `order` costs; reverts as `_request` would.
    function _quote(IComputeBridge.Order memory order) internal view returns (uint256 price) {
        _checkCurator(order);
        return _BRIDGE.quote(order);
    }

    /// @dev Orders, and pays `value`, which must be exactly the price: pass `msg.value` on, or `_quote(order)` where the
    ///      dApp pays from its own balance. For an order in an ERC-20 it is zero: let the bridge take `_quote(order)` of the
    ///      token first (`approve`).
    function _request(IComputeBridge.Order memory order, uint256 value) internal returns (uint256 id) {
        _checkCurator(order);
        return _BRIDGE.requestJob{value: value}(order);
    }

    /// @dev What came back from settlements and refunds so far and can be drawn, in the native token.
    function _refundable() internal view returns (uint256) {
        return _refundable(address(0));
    }

    /// @dev What came back in `token`; zero for the native one.
    function _refundable(address token) internal view returns (uint256) {
        return _BRIDGE.creditOf(address(this), token);
    }

    /// @dev Draws all that came back in the native token to `to`; zero when there is nothing. Not from inside a callback:
    ///      the bridge is locked then. A contract that draws to itself needs a `receive` function.
    function _collectRefunds(address payable to) internal returns (uint256 amount) {
        return _collectRefunds(address(0), to);
    }

    /// @dev As above, of `token`.
    function _collectRefunds(address token, address payable to) internal returns (uint256 amount) {
        amount = _refundable(token);
        if (amount != 0) _BRIDGE.withdraw(token, to);
    }

    function _checkCurator(IComputeBridge.Order memory order) private view {
        if (order.curator == address(0) && !_acceptsAnyNode()) revert ComputeClientNoCurator();
    }
}
