// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";

import {ComputeClient} from "../client/ComputeClient.sol";
import {PayerRefunds} from "../client/PayerRefunds.sol";
import {ResultText} from "../client/ResultText.sol";
import {SpecBuilder} from "../client/SpecBuilder.sol";
import {IComputeBridge} from "../interfaces/IComputeBridge.sol";

/// @title ImageMint
/// @notice Example 2: anyone orders an image of his own words; the result's CID becomes a token of his. What comes back
///         of an order that made no image goes to whoever paid for it.
contract ImageMint is ERC721, PayerRefunds {
    using SpecBuilder for SpecBuilder.Spec;

    struct Painting {
        address painter;
        bytes cid;
    }

    uint8 private constant _SUCCEEDED = 1;

    address private immutable _CURATOR;
    uint128 private immutable _UNIT_PRICE;
    string private _image;
    mapping(uint256 id => Painting painting) private _paintings;

    event Ordered(uint256 indexed id, address indexed painter, string prompt);
    event NotPainted(uint256 indexed id, uint8 status, uint16 reason);

    error ImageMintNotExpired(uint256 id);

    /// @param image     a container image by digest, which writes /outputs/image.png from its first argument
    /// @param unitPrice what a painting costs, in the chain's smallest unit
    /// @param pushGas   gas for a payer's `receive` when a refund is pushed
    constructor(address bridge, address curator, string memory image, uint128 unitPrice, uint64 pushGas)
        ERC721("Insula paintings", "PAINT")
        ComputeClient(bridge)
        PayerRefunds(pushGas)
    {
        _CURATOR = curator;
        _UNIT_PRICE = unitPrice;
        _image = image;
    }

    /// @notice Orders an image; `prompt` is any text. The value must be exactly the unit price.
    function paint(string calldata prompt) external payable returns (uint256 id) {
        SpecBuilder.Spec memory spec = SpecBuilder.docker(_image).arg(prompt).label("gpu", "yes");
        IComputeBridge.Order memory order = _newOrder(spec.build(), _CURATOR, _UNIT_PRICE);
        order.labels = spec.orderLabels();
        id = _request(order, msg.value);
        _paintings[id].painter = msg.sender;
        emit Ordered(id, msg.sender, prompt);
    }

    /// @notice Books the refund of an order that nobody answered, once it is expired at the bridge. Anyone may call it.
    function refundExpired(uint256 id) external returns (bool success) {
        address painter = _paintings[id].painter;
        (IComputeBridge.State state,) = computeBridge().resultOf(id);
        if (painter == address(0) || state != IComputeBridge.State.Expired) revert ImageMintNotExpired(id);
        delete _paintings[id];
        _book(painter, id, _UNIT_PRICE);
        return _push(painter, true);
    }

    /// @inheritdoc ERC721
    function tokenURI(uint256 id) public view override returns (string memory) {
        _requireOwned(id);
        return string.concat("ipfs://", ResultText.cidText(_paintings[id].cid), "/outputs/image.png");
    }

    /// @dev `_mint`, not `_safeMint`: a painter that is a contract without `onERC721Received` must not lose the token.
    function _onResult(uint256 id, bytes32, IComputeBridge.Outcome calldata outcome) internal override {
        Painting storage painting = _paintings[id];
        address painter = painting.painter;
        if (outcome.status == _SUCCEEDED) {
            painting.cid = outcome.outputCid;
            _mint(painter, id);
        } else {
            delete _paintings[id];
            emit NotPainted(id, outcome.status, outcome.reason);
            _book(painter, id, _returned(outcome.status, 1, _UNIT_PRICE, 0));
        }
    }
}
